// SPDX-License-Identifier: Apache-2.0
/** Fixed values for the golden vectors: two keys of known seed, one time, one example of every payload. */
import { createPrivateKey } from "node:crypto";
import { type MetricSample, metricCatalogue } from "#metrics.ts";
import type { CborMap } from "#telemetry/cbor.ts";
import type { Command } from "#telemetry/command.ts";
import { type KeyPair, readKeyPair } from "#telemetry/keys.ts";
import type { RescueRecord } from "#telemetry/rescueRecord.ts";
import { verbRoles } from "#verbs.ts";

export const atMs = 1_795_366_800_000;
export const atSeconds = atMs / 1000;
export const device = "box-17";
export const boot = "6f1c0e5e-2d0b-4c5a-9d0e-0c6d9b9f2a11";
export const buildId = "c0ffee00112233445566778899aabbccddeeff00";
const libraryId = "deadbeef00112233445566778899aabbccddeeff";

/** DER in front of the 32 bytes of an Ed25519 private key (RFC 8410, section 7). */
const pkcs8Head = Uint8Array.fromHex("302e020100300506032b657004220420");

/** The key pair whose 32 private bytes are all `seed`. For vectors and tests only. */
export function seededPair(seed: number): KeyPair {
  const der = Buffer.concat([pkcs8Head, new Uint8Array(32).fill(seed)]);
  const object = createPrivateKey({ key: der, format: "der", type: "pkcs8" });
  return readKeyPair(object.export({ type: "pkcs8", format: "pem" }).toString());
}

export const operatorPair = seededPair(1);
export const fleetPair = seededPair(2);
export const boxPair = seededPair(3);

const eventHead = { v: 1, boot, t: atMs, q: "synced" };

export const birth: CborMap = {
  v: 1,
  rev: 3,
  t: atMs,
  boot,
  model: "QEMU virt",
  soc: "unknown",
  arch: "aarch64",
  sw: "0.1.0",
  os: "Debian GNU/Linux 12",
  slot: "a",
  reason: "power-on",
  rollback: "health check failed: no workload served within 300 s",
  verbs: verbRoles,
  workloads: [{ w: "redis", kind: "program", prog: "redis-server", build: buildId, protected: true }],
  metrics: Object.fromEntries(
    Object.entries(metricCatalogue).map(([name, { kind, group, unit, labels }]) => [
      name,
      { kind, group, unit, labels: [...labels] },
    ]),
  ),
  counters: { kind: "none", why: "perf_event_paranoid is 4" },
  herd: boxPair.public.raw,
};

export const config: CborMap = {
  v: 1,
  t: atMs,
  hash: "9f86d081884c7d65",
  restart_required: false,
  settings: { "telemetry.drain_per_s": 20, "workload.redis.probe": ["tcp:6379"], herd: "use" },
};

export const faultEvent: CborMap = {
  ...eventHead,
  id: "019d2b3e-5a80-7c3e-8f00-0123456789ab",
  n: 4711,
  pn: 4709,
  sev: 2,
  class: "fault",
  w: "redis",
  fault: "f-01jd3q",
  sig: "segv",
  site: { fault: `${buildId}+0x4f2a0`, iface: `${buildId}+0x31c44` },
  thread: "redis-server",
};

export const outcomeEvent: CborMap = {
  ...eventHead,
  id: "019d2b3e-62c1-7aaa-9b00-ba9876543210",
  n: 4713,
  pn: 4711,
  sev: 1,
  class: "suppress",
  w: "redis",
  fault: "f-01jd3q",
  trial: "f-01jd3q.1",
  rung: "abandon",
  out: "clean",
  stop_us: 874,
  prob_ms: 2000,
  cut: 0,
  fleet: true,
};

export const auditEvent: CborMap = {
  ...eventHead,
  id: "019d2b3e-7000-7000-8000-000000000001",
  n: 4714,
  pn: 4713,
  sev: 1,
  class: "audit",
  name: "audit.command",
  facts: { key: operatorPair.public.id, verb: "ping", id: "job-00000001", outcome: "accepted" },
};

export const alarm: CborMap = {
  v: 1,
  alarm: "broker.quota",
  sev: 2,
  since: atMs,
  cause: "the broker refuses messages: quota exceeded",
  effect: "events wait on the box, 71 of them, the oldest for 5 minutes",
  fix: "raise the broker's quota for this client",
};

export const job: CborMap = {
  v: 1,
  id: "job-00000001",
  verb: "workload.restart",
  s: "running",
  t: atMs,
  by: operatorPair.public.id,
  pct: 40,
  step: "waiting for the probe",
  left_s: 12,
};

export const samples: readonly MetricSample[] = [
  { kind: "value", name: "faults_total", labels: ["redis", "SIGSEGV"], value: 12 },
  { kind: "value", name: "workload_up", labels: ["redis"], value: 1 },
  { kind: "value", name: "host_disk_free_bytes", labels: ["/var/lib"], value: 12_884_901_888 },
  {
    kind: "histogram",
    name: "stop_seconds",
    labels: ["redis"],
    buckets: [0, 1, 9, 11, 12, 12, 12, 12, 12, 12, 12],
    count: 12,
    sum: 0.0105,
  },
];

export const command: Command = {
  dev: device,
  verb: "workload.restart",
  args: { w: "redis" },
  id: "job-00000001",
  ctr: 12,
  iat: atSeconds,
  exp: atSeconds + 600,
  role: "operate",
};

export const record = (grant: Uint8Array): RescueRecord => ({
  build: buildId,
  program: "redis-server",
  isa: "x64",
  signal: "segv",
  fault: { module: buildId, offset: 0x4f2a0n },
  boundary: { module: libraryId, offset: 0x31c44n },
  rung: 1,
  candidate: { module: buildId, offset: 0x31c44n },
  returnValue: -1n,
  clean: 7,
  degraded: 1,
  failed: 0,
  block: false,
  rev: 3,
  device,
  version: "0.1.0",
  issuedAt: atSeconds,
  expiresAt: atSeconds + 90 * 86_400,
  grant,
});
