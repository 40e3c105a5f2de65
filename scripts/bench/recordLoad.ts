// SPDX-License-Identifier: Apache-2.0
/**
 * Records what the monitor sees of real programs under a mixed load, for the replayed day of the detectors' test.
 *
 *     bun scripts/bench/recordLoad.ts [SECONDS] > recording.json
 *
 * redis and memcached under steady traffic, bursts, pipelines, background saves and flushes; a batch job that compresses; an
 * nginx that idles. All on free ports of loopback, all ended at the end. Gives one line of JSON: a list of frames each.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { systemBox } from "#board/box.ts";
import { systemClock } from "#clock.ts";
import { SamplerPort } from "#monitor/counters/samplerPort.ts";
import { boxFacts, type Frame, frameOf } from "#monitor/detectors/frame.ts";

const secondsMax = 3_600;
const seconds = Math.min(Number(process.argv[2] ?? 240), secondsMax);
const directory = mkdtempSync(join(tmpdir(), "holdfast-record-"));
const quiet = { stdio: ["ignore", "ignore", "ignore"] as ["ignore", "ignore", "ignore"], cwd: directory };

const freePort = (): Promise<number> =>
  new Promise((resolve) => {
    const server = createServer().listen(0, "127.0.0.1", () => {
      const { port } = server.address() as { port: number };
      server.close(() => resolve(port));
    });
  });

const [redis, memcached] = [await freePort(), await freePort()];
const batch = "while :; do head -c 40000000 /dev/urandom | gzip -9 > batch.gz; sleep 7; done";
const programs = {
  redis: Bun.spawn(["redis-server", "--port", `${redis}`, "--bind", "127.0.0.1"], quiet),
  memcached: Bun.spawn(["memcached", "-u", "nobody", "-l", "127.0.0.1", "-p", `${memcached}`, "-m", "256"], quiet),
  batch: Bun.spawn(["/bin/sh", "-c", batch], quiet),
  idle: Bun.spawn(["/bin/sh", "-c", "while :; do sleep 0.2; done"], quiet),
};

/** One phase of traffic after the other, each some seconds long. */
const phases: readonly string[] = [
  "sleep 8",
  `redis-benchmark -p ${redis} -q -n 60000 -c 20 -t get,set`,
  `redis-benchmark -p ${redis} -q -n 400000 -c 50 -P 16 -t set -r 200000 -d 200`,
  "sleep 5",
  `redis-cli -p ${redis} bgsave`,
  `redis-benchmark -p ${redis} -q -n 20000 -c 5 -t lrange_300`,
  `redis-cli -p ${redis} eval "for i=1,3000000 do local x=i*i end return 1" 0`,
  `redis-cli -p ${redis} flushall`,
  "sleep 3",
];
const frames: Record<string, Frame[]> = Object.fromEntries(Object.keys(programs).map((name) => [name, []]));
let box = boxFacts(null);
using port = new SamplerPort({
  box: systemBox,
  rateHz: 10,
  places: ["/"],
  snapshot: ({ targets, atMs, monotonicNs, host }) => {
    if (host !== null) box = boxFacts(host);
    const facts = { atMs, monotonicMs: monotonicNs / 1e6, faults: 0, probes: [], peerClock: null, box };
    for (const target of targets) frames[target.workload]!.push(frameOf(target, facts));
  },
  ended: (why) => process.stderr.write(`${why}\n`),
});
port.watch(Object.entries(programs).map(([workload, { pid }]) => ({ workload, kind: "program", pids: [pid] })));
const endNs = systemClock.monotonicNs() + seconds * 1e9;
for (let phase = 0; systemClock.monotonicNs() < endNs; phase += 1) {
  await Bun.spawn(["/bin/sh", "-c", phases[phase % phases.length]!], quiet).exited;
}
for (const program of Object.values(programs)) program.kill("SIGKILL");
await Promise.all(Object.values(programs).map(({ exited }) => exited));
rmSync(directory, { recursive: true, force: true });
process.stdout.write(
  `${JSON.stringify(Object.fromEntries(Object.entries(frames).map(([name, own]) => [name, own.map(rowOf)])))}\n`,
);

/** A frame as a row of `recording.json`; see replayedDay.ts. */
function rowOf(frame: Frame): unknown[] {
  const { monotonicMs, cpuSeconds, residentBytes, ioBytes, counters, pressure, threads } = frame;
  const busy = threads.map(({ tid, name, cpuSeconds: cpu, switches }) => [tid, name, cpu, switches?.voluntary ?? 0]);
  const full = [pressure?.memory, pressure?.io].map((each) => each?.full?.over10s ?? 0);
  const pages = Math.round((residentBytes ?? 0) / 4_096);
  return [
    monotonicMs,
    cpuSeconds,
    pages,
    ioBytes,
    counters.context_switches ?? 0,
    counters.page_faults ?? 0,
    ...full,
    busy,
  ];
}
