// SPDX-License-Identifier: Apache-2.0
/**
 * A day of mixed load, replayed from a recording. Gets a seed; gives frames, one a second, for each workload.
 *
 * `recording.json` was made by scripts/bench/recordLoad.ts on a busy two-core machine: redis under traffic, bursts, scripts
 * and saves; memcached; a batch job that compresses; a shell that idles. The day is put together from pieces of 20 to 90 s
 * at random. On top of that come what a recording of minutes cannot hold, by seed: the day's ebb and flow of memory, a cache
 * that fills for some hours, counters of a processor whose phases differ, exits of a guest with boots and bursts, probes that
 * fail once or twice, hours of backup that press on the disk, and few faults.
 */
import { type Random, seededRandom } from "#clock.ts";
import type { Frame } from "#monitor/detectors/frame.ts";
import type { ThreadLook } from "#monitor/snapshot.ts";
import recording from "./recording.json";

type Row = readonly [
  atMs: number,
  cpu: number,
  pages: number,
  io: number,
  switches: number,
  faults: number,
  memoryFull: number,
  ioFull: number,
  busy: readonly (readonly [number, string, number, number])[],
];
export type Workload = keyof typeof recording;
export const workloads = Object.keys(recording) as Workload[];

const pageBytes = 4_096;
const daySeconds = 86_400;
const mebibyte = 2 ** 20;
/** Monday, as good as any. */
const startMs = 1_795_392_000_000;

type Totals = {
  cpu: number;
  io: number;
  switches: number;
  faults: number;
  cycles: number;
  instructions: number;
  misses: number;
  exits: number;
  signals: number;
};

/** Frames of `seconds` seconds of one workload. */
export function* replay(workload: Workload, seed: number, seconds = daySeconds): Generator<Frame> {
  const rows = recording[workload] as unknown as readonly Row[];
  const random = seededRandom(seed + workloads.indexOf(workload) * 7919);
  const totals: Totals = {
    cpu: 0,
    io: 0,
    switches: 0,
    faults: 0,
    cycles: 0,
    instructions: 0,
    misses: 0,
    exits: 0,
    signals: 0,
  };
  const threads = new Map<number, { cpu: number; switches: number }>();
  const day = dayOf(random);
  let at = 0;
  let left = 0;
  for (let second = 0; second < seconds; second += 1) {
    if (left === 0 || at + 1 >= rows.length) {
      at = Math.floor(random() * (rows.length - 20));
      left = 20 + Math.floor(random() * 70);
    }
    const [before, row] = [rows[at]!, rows[at + 1]!];
    at += 1;
    left -= 1;
    const busy = add(totals, threads, before, row);
    day.second(second, totals, row[1] - before[1]);
    yield frame(second, workload, row, totals, busy, day);
  }
}

function add(
  totals: Totals,
  threads: Map<number, { cpu: number; switches: number }>,
  before: Row,
  row: Row,
): ThreadLook[] {
  totals.cpu += Math.max(0, row[1] - before[1]);
  totals.io += Math.max(0, row[3] - before[3]);
  totals.switches += Math.max(0, row[4] - before[4]);
  totals.faults += Math.max(0, row[5] - before[5]);
  return row[8].map(([tid, name, cpu, switches]) => {
    const known = threads.get(tid) ?? { cpu: 0, switches: 0 };
    const last = before[8].find((each) => each[0] === tid);
    // A thread that was not busy before has switched: it waited.
    known.cpu += last === undefined ? 0.1 : Math.max(0, cpu - last[2]);
    known.switches += last === undefined ? 1 : Math.max(0, switches - last[3]);
    threads.set(tid, known);
    return { tid, name, state: "R", cpuSeconds: known.cpu, switches: { voluntary: known.switches, forced: 0 } };
  });
}

type Day = {
  second(second: number, totals: Totals, cpu: number): void;
  readonly extraBytes: number;
  readonly failuresInRow: number;
  readonly ioFull: number;
};

function dayOf(random: Random): Day {
  const phase = random() * daySeconds;
  const [cacheFrom, cacheSeconds, cacheBytes] = [
    random() * daySeconds,
    1_800 + random() * 5_400,
    200 * mebibyte * random(),
  ];
  const backupFrom = random() * daySeconds;
  let [ipc, missRatio, bootLeft, burstLeft, failing] = [1.2, 0.002, 90, 0, 0];
  const day = {
    extraBytes: 0,
    failuresInRow: 0,
    ioFull: 0,
    second(second: number, totals: Totals, cpu: number): void {
      if (random() < 1 / 180) {
        // Phases of a program: from memory-bound to arithmetic.
        ipc = 0.7 + 1.3 * random();
        missRatio = 0.001 + (2.2 - ipc) * 0.002 * random();
      }
      const cycles = Math.max(0, cpu) * 2.4e9;
      totals.cycles += cycles;
      totals.instructions += cycles * ipc * (0.9 + 0.2 * random());
      totals.misses += cycles * ipc * missRatio * (0.8 + 0.4 * random());
      if (random() < 1 / 20_000) bootLeft = 60;
      if (random() < 1 / 1_800) burstLeft = 30;
      totals.exits += (bootLeft > 0 ? 60_000 : burstLeft > 0 ? 45_000 : 3_000) * (0.5 + random());
      bootLeft -= 1;
      burstLeft -= 1;
      const turn = (2 * Math.PI * (second + phase)) / daySeconds;
      const filled = Math.min(1, Math.max(0, (second - cacheFrom) / cacheSeconds));
      day.extraBytes = 60 * mebibyte * (1 + Math.sin(turn)) + cacheBytes * filled + 2 * mebibyte * random();
      if (random() < 1 / 7_200) failing = 1 + Math.floor(2 * random());
      if (second % 5 === 0) {
        day.failuresInRow = failing > 0 ? day.failuresInRow + 1 : 0;
        failing = Math.max(0, failing - 1);
      }
      const inBackup = second >= backupFrom && second < backupFrom + 1_800;
      day.ioFull = inBackup ? 0.2 + 0.35 * random() : 0;
      if (random() < 1 / 14_400) totals.signals += 1 + Math.floor(3 * random());
    },
  };
  return day;
}

function frame(
  second: number,
  workload: Workload,
  row: Row,
  totals: Totals,
  threads: readonly ThreadLook[],
  day: Day,
): Frame {
  const atMs = startMs + second * 1000;
  const monotonicMs = second * 1000 + 1;
  const full = (share: number) => ({ over10s: share, over60s: share, over300s: share, stalledSeconds: 0 });
  const passing = day.failuresInRow === 0;
  const probe = {
    probe: "tcp:1",
    state: "passing" as const,
    failuresInRow: day.failuresInRow,
    lastMs: atMs - (second % 5) * 1000,
    why: passing ? null : "refused",
  };
  return {
    ...{ atMs, monotonicMs, kind: workload === "batch" ? "guest" : "program" },
    cpuSeconds: totals.cpu,
    residentBytes: row[2] * pageBytes + day.extraBytes,
    ioBytes: totals.io,
    threadCount: 4,
    openFiles: 20,
    threads,
    counters: {
      ...{ cycles: totals.cycles, instructions: totals.instructions, cache_misses: totals.misses },
      ...{ context_switches: totals.switches, page_faults: totals.faults, task_clock: totals.cpu * 1e9 },
    },
    // A small board.
    leftBytes: 4_096 * mebibyte - day.extraBytes,
    exits: workload === "batch" ? totals.exits : null,
    faults: totals.signals,
    pressure: {
      cpu: null,
      memory: { some: full(row[6]), full: full(row[6]) },
      io: { some: full(row[7]), full: full(Math.max(row[7], day.ioFull)) },
    },
    // The idle one has no probe, so nothing speaks against an alarm there.
    probes: workload === "redis" || workload === "memcached" ? [probe] : [],
    // Whole seconds, as HTTP tells them, asked every five.
    peerClock: second % 5 === 0 ? { peerMs: Math.floor((atMs + 300) / 1000) * 1000, monotonicMs } : null,
  };
}
