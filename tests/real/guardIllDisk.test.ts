// SPDX-License-Identifier: Apache-2.0
/**
 * Stock redis under a guard whose state directory is full, read-only, missing, somebody else's, on a device that takes a
 * second for each write, or holds nothing but damaged databases: every crash is survived, judged and told all the same.
 */
import { afterEach, beforeEach, expect } from "bun:test";
import { chownSync, existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { GuardProcess } from "#appliance/demo/guardProcess.ts";
import { startTicksOf } from "#appliance/demo/processFacts.ts";
import { openDisplay } from "#appliance/demo/screen.ts";
import { prepareServer, waitUntilServing } from "#appliance/demo/serverProcess.ts";
import { fire } from "#appliance/demo/shot.ts";
import { triggersOf } from "#appliance/demo/triggers.ts";
import { systemClock } from "#clock.ts";
import { listFaults } from "#storage/journalReader.ts";
import { guardDirectory } from "#storage/ownership.ts";
import { buildShim, met, operations, plan, shimEnvironment } from "#tests/crash/diskShim.ts";
import { need, root, tracing } from "#tests/skip.ts";
import { SmallDisk } from "#tests/smallDisk.ts";
import { holdfast } from "./guardedServer.ts";

const timeoutMs = 120_000;
const name = `ill-${process.pid}`;
const files = ["journal", "outbox", "history"] as const;
const crashes = triggersOf("redis-server").filter(({ upstream }) => upstream === "built in");
const silent = { write: () => {}, environment: {}, isTerminal: false, size: () => ({ columns: 80, rows: 24 }) };
const redisTest = need("redis-server", "gdbserver", root, "mount", tracing);

let scratch = "";
beforeEach(() => {
  scratch = mkdtempSync(join(tmpdir(), "holdfast-guard-ill-"));
});
afterEach(() => {
  rmSync(scratch, { recursive: true, force: true });
});
const state = (): string => join(scratch, "state");

/** One crash of each kind; gives what the guard said beside faults and verdicts, after it has ended. */
async function surviveAll(environment: Record<string, string> = {}, meanwhile = (): void => {}): Promise<string[]> {
  await using server = await prepareServer("redis-server");
  const words = Object.entries(environment).map(([key, value]) => `${key}=${value}`);
  await using guard = new GuardProcess({
    holdfast: ["env", ...words, ...holdfast],
    guardArguments: ["--name", name, "--state", state(), "--", ...server.command],
    logPath: join(scratch, "log"),
  });
  const { pid } = await guard.guarding();
  const startTicks = startTicksOf(pid);
  await waitUntilServing(server, guard.exited, systemClock);
  const range = {
    ...{ guard, port: server.place.port, pid, clock: systemClock, display: openDisplay(true, silent) },
    signal: new AbortController().signal,
    scene: {
      ...{ title: "", startedNs: 0, nowNs: 0, rates: [], samples: 0, shots: [] },
      bystanders: { connections: 0, requests: 0, wrong: 0, missing: 0, lost: 0, evidence: [] },
    },
  };
  for (const [number, trigger] of crashes.entries()) {
    const shot = await fire(trigger, number, range as unknown as Parameters<typeof fire>[2]);
    expect([trigger.name, shot.state, shot.newcomerServed]).toEqual([trigger.name, "judged", true]);
    expect(["clean", "degraded"]).toContain(shot.outcomes.at(-1)?.verdict ?? "none");
    if (number === 0) meanwhile();
  }
  expect([startTicksOf(pid), guard.violations]).toEqual([startTicks, []]);
  // Not killed for taking too long: a stop does not wait for the disk either.
  expect((await guard.stop()).signal).toBeNull();
  return guard.otherEvents;
}

const told = (): number => listFaults({ stateDirectory: state(), limit: 100 }).faults.length;

redisTest(
  "a full disk, and one that fills up meanwhile",
  async () => {
    using disk = new SmallDisk(state());
    const { length } = crashes;
    await surviveAll({}, () => disk.fill());
    const before = told();
    expect(before).toBeLessThan(length);
    expect(await surviveAll()).toContain("record");
    disk.makeRoom();
    // What only the ring had is written down by the next guard.
    await surviveAll();
    expect(told()).toBeGreaterThanOrEqual(before + length);
  },
  timeoutMs,
);

redisTest(
  "a read-only disk",
  async () => {
    using disk = new SmallDisk(state());
    disk.setWritable(false);
    expect(await surviveAll()).toContain("record");
    expect(readdirSync(state())).toEqual([]);
  },
  timeoutMs,
);

redisTest(
  "no directory, one of somebody else's, and one that is removed meanwhile",
  async () => {
    writeFileSync(state(), "a file where the directory should be");
    expect(await surviveAll()).toContain("record");
    rmSync(state());
    mkdirSync(guardDirectory(state(), name), { recursive: true });
    chownSync(guardDirectory(state(), name), 12345, 12345);
    expect(await surviveAll()).toContain("record");
    expect(readdirSync(guardDirectory(state(), name))).toEqual([]);
    rmSync(state(), { recursive: true });
    await surviveAll({}, () => rmSync(state(), { recursive: true }));
  },
  timeoutMs,
);

need(
  "redis-server",
  "gdbserver",
  "gcc",
  tracing,
)(
  "a device that takes a second for each write",
  async () => {
    const control = join(scratch, "control");
    plan(control, { mishap: "stall", operations: operations.write | operations.sync, from: 1, count: 0 });
    const all = shimEnvironment(buildShim(scratch), state(), control);
    const ours = Object.entries(all).filter(([key]) => key === "LD_PRELOAD" || key.startsWith("HOLDFAST_SHIM"));
    await surviveAll(Object.fromEntries(ours));
    expect(met(control).struck).toBeGreaterThan(0);
  },
  timeoutMs,
);

redisTest(
  "every database is damaged, at the start and again meanwhile",
  async () => {
    const directory = guardDirectory(state(), name);
    const damage = (): void => {
      mkdirSync(directory, { recursive: true, mode: 0o700 });
      for (const file of files) {
        rmSync(join(directory, `${file}.db-wal`), { force: true });
        writeFileSync(join(directory, `${file}.db`), "x".repeat(9999));
      }
    };
    damage();
    await surviveAll({}, damage);
    for (const file of files) {
      expect(existsSync(join(directory, "quarantine"))).toBe(true);
      expect(readdirSync(join(directory, "quarantine")).filter((set) => set.startsWith(file))).not.toEqual([]);
    }
  },
  timeoutMs,
);
