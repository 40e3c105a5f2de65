// SPDX-License-Identifier: Apache-2.0
/**
 * Stop time and cost of guarding by the number of threads: 1, 16, 128 and 1,024, in the same run, interleaved.
 *
 * For each number one guarded program (stop.c), of whose threads all but the first sleep, stands ready; the first one faults in
 * turn in each of them. Beside each an unguarded twin does the same fixed work. Gives, by number of threads: stop time by the
 * program's own clock and as ratio to one thread, the ratio of work guarded to unguarded, the processor time of supervisor
 * and gdbserver while nothing happens, and how often any other thread was stopped: a stop is a voluntary switch, and a thread
 * that sleeps has no other. `--faults N` for each, `--works N`, `--idle SECONDS`, `--json FILE`. Exit code 1 where another
 * thread was stopped, or a fault was not returned from.
 */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { GuardProcess } from "#appliance/demo/guardProcess.ts";
import { processorTicksOf, tracerOf } from "#appliance/demo/processFacts.ts";
import { systemClock } from "#clock.ts";
import { ProgramError } from "#errors.ts";
import { readStatus, readThreads } from "#monitor/processes.ts";
import { publish, readFlags, rounded } from "./benchReport.ts";
import { compileOrdered, type OrderedProgram } from "./orderedProgram.ts";
import { median, medianInterval, quantile } from "./statistics.ts";

const seed = 1;
const counts = [1, 16, 128, 1024] as const;
const kinds = "lscd";
const work = "w";
const returnMsMax = 20_000;
const lookMs = 1;
/** Probation and its looks are over by then. */
const quietMs = 400;
const settleMs = 3_000;
const tickMs = 10;

type Recorded = { readonly value: bigint; readonly us: number };
type Case = AsyncDisposable & {
  readonly threads: number;
  readonly pid: number;
  readonly guardPid: number;
  readonly guarded: OrderedProgram;
  readonly twin: OrderedProgram;
};

/** Has a program carry out one order; gives how long that took by its own clock. @throws ProgramError */
async function carryOut(program: OrderedProgram, order: string): Promise<Recorded> {
  const countOf = (): number => Number(program.shared().u64());
  const before = countOf();
  const endNs = systemClock.monotonicNs() + returnMsMax * 1e6;
  program.order(order);
  while (countOf() === before) {
    if (systemClock.monotonicNs() > endNs) throw new ProgramError("program.gone", `no return from order ${order}`);
    await systemClock.sleep(lookMs);
  }
  const bytes = program.shared();
  bytes.position = 32 + 32 * before + 8;
  const value = bytes.i64();
  const startNs = bytes.u64();
  return { value, us: Number(bytes.u64() - startNs) / 1_000 };
}

async function open(threads: number): Promise<Case> {
  const [guarded, twin] = [await compileOrdered("stop"), await compileOrdered("stop")];
  const scratch = await mkdtemp(join(tmpdir(), "holdfast-bench-"));
  const where = ["--name", `bench-threads-${process.pid}-${threads}`, "--state", join(scratch, "state")];
  const command = [...guarded.command, `${threads}`];
  const guard = new GuardProcess({
    ...{ holdfast: ownHoldfast, guardArguments: [...where, "--", ...command], logPath: join(scratch, "log") },
  });
  const child = Bun.spawn([...twin.command, `${threads}`], { stdio: ["ignore", "ignore", "ignore"] });
  const { pid } = await guard.guarding();
  return {
    ...{ threads, pid, guardPid: guard.pid, guarded, twin },
    [Symbol.asyncDispose]: async () => {
      await guard[Symbol.asyncDispose]();
      child.kill("SIGKILL");
      await child.exited;
      for (const program of [guarded, twin]) await program[Symbol.asyncDispose]();
      await rm(scratch, { recursive: true, force: true });
    },
  };
}

/** Voluntary switches of all threads but the first. */
const switchesOfOthers = (pid: number): number =>
  readThreads(pid)
    .filter((tid) => tid !== pid)
    .reduce((sum, tid) => sum + (readStatus(pid, tid)?.voluntarySwitches ?? 0), 0);

type Figures = { stops: number[]; guardedWork: number[]; twinWork: number[]; otherStops: number; idleMs: number };

async function measure(cases: readonly Case[], faults: number, works: number): Promise<Map<number, Figures>> {
  const figures = new Map<number, Figures>(
    cases.map(({ threads }) => [threads, { stops: [], guardedWork: [], twinWork: [], otherStops: 0, idleMs: 0 }]),
  );
  const before = cases.map(({ pid }) => switchesOfOthers(pid));
  for (let round = 0; round < Math.max(faults, works); round += 1) {
    for (const one of round % 2 === 0 ? cases : [...cases].reverse()) {
      const mine = figures.get(one.threads)!;
      if (round < faults) mine.stops.push((await carryOut(one.guarded, kinds[round % kinds.length]!)).us);
      if (round >= works) continue;
      const both = [
        [mine.guardedWork, one.guarded],
        [mine.twinWork, one.twin],
      ] as const;
      for (const [times, program] of round % 2 === 0 ? both : both.toReversed())
        times.push((await carryOut(program, work)).us);
    }
    await systemClock.sleep(quietMs);
  }
  for (const [index, { threads, pid }] of cases.entries()) {
    figures.get(threads)!.otherStops = switchesOfOthers(pid) - before[index]!;
  }
  return figures;
}

/** Processor time of supervisor and stub for one second in which nothing happens, ms. */
async function idleCost({ guardPid, pid }: Case, seconds: number): Promise<number> {
  const ticks = (): number => processorTicksOf(guardPid) + processorTicksOf(tracerOf(pid));
  const before = ticks();
  await systemClock.sleep(seconds * 1000);
  return ((ticks() - before) * tickMs) / seconds;
}

function describe({ stops, guardedWork, twinWork, otherStops, idleMs }: Figures, oneThreadUs: number) {
  const later = stops.slice(kinds.length);
  const ratios = guardedWork.map((us, index) => twinWork[index]! / us);
  const interval = medianInterval(ratios, seed);
  return {
    stopUs: { median: rounded(median(later)), p99: rounded(quantile(later, 0.99)), count: later.length },
    stopToOneThread: rounded(median(later) / oneThreadUs, 2),
    workRatio: rounded(median(ratios), 3),
    workRatioInterval: { low: rounded(interval.low, 3), high: rounded(interval.high, 3) },
    idleProcessorMsPerSecond: rounded(idleMs),
    otherThreadsStopped: otherStops,
  };
}

const ownHoldfast = [process.execPath, join(import.meta.dir, "../../src/cli/main.ts")];
const flags = readFlags(process.argv.slice(2), { faults: 44, works: 20, idle: 5 });
const { faults, works, idle } = flags.numbers as { faults: number; works: number; idle: number };
await using stack = new AsyncDisposableStack();
const cases: Case[] = [];
for (const threads of counts) cases.push(stack.use(await open(threads)));
await systemClock.sleep(settleMs);
const figures = await measure(cases, faults, works);
for (const one of cases) figures.get(one.threads)!.idleMs = await idleCost(one, idle);
const oneThreadUs = median(figures.get(1)!.stops.slice(kinds.length));
const results = Object.fromEntries(
  [...figures].map(([threads, figure]) => [`${threads} threads`, describe(figure, oneThreadUs)]),
);
await publish({ name: "manyThreads", seed, rounds: faults, failed_runs: [], results }, flags.json);
await stack.disposeAsync();
process.exit([...figures.values()].every(({ otherStops }) => otherStops === 0) ? 0 : 1);
