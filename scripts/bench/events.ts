// SPDX-License-Identifier: Apache-2.0
/**
 * What guarding costs a program that makes threads, forks and gets signals: guarded against a bare attached gdbserver, and
 * both against nobody, in the same run.
 *
 * Three copies of events.c stand ready. Each round has each of them do one batch of every kind, there and back (A B C C B A),
 * by turns. Gives the median absolute cost of an event in each, and the median paired ratio guarded to bare with its 95 %
 * interval, which must not pass `ratioMax`. `--rounds N`, `--json FILE`.
 */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { GuardProcess } from "#appliance/demo/guardProcess.ts";
import { systemClock } from "#clock.ts";
import { ProgramError } from "#errors.ts";
import { silentLog } from "#log.ts";
import { GdbClient } from "#monitor/gdb/client.ts";
import { startStub } from "#monitor/gdb/stub.ts";
import { runBeforeTheLoad } from "#monitor/priority.ts";
import { controlResult, publish, readFlags, rounded } from "./benchReport.ts";
import { compileOrdered, type OrderedProgram } from "./orderedProgram.ts";
import { median, medianInterval, quantile } from "./statistics.ts";

const kinds = { t: "thread created and joined", f: "fork and wait", u: "SIGUSR1", a: "SIGALRM" } as const;
type Kind = keyof typeof kinds;
const order = Object.keys(kinds) as Kind[];
const arms = ["alone", "bare", "guarded"] as const;
type Arm = (typeof arms)[number];
const ratioMax = 1.1;
/** The cheapest tenth of batches met the least of other work on the machine: their ratio is told beside. */
const floorShare = 0.1;
const seed = 1;
const lookMs = 1;
const batchMsMax = 20_000;

/** Runs one batch; gives µs an event. */
async function batch(program: OrderedProgram, kind: Kind): Promise<number> {
  const before = doneOf(program);
  program.order(kind);
  for (let waitedMs = 0; doneOf(program) === before; waitedMs += lookMs) {
    if (waitedMs > batchMsMax)
      throw new ProgramError("program.gone", `no batch of ${kinds[kind]} within ${batchMsMax} ms`);
    await systemClock.sleep(lookMs);
  }
  const bytes = program.shared();
  bytes.position = 8 + 16 * before + 8;
  return Number(bytes.u64()) / 1_000;
}

const doneOf = (program: OrderedProgram): number => Number(program.shared().u64());

async function untilReady(program: OrderedProgram): Promise<void> {
  while (program.shared().end === 0) await systemClock.sleep(lookMs);
}

/** Bare: a stock gdbserver that was told the same as ours, with the same priority, and that nobody asks for anything. */
async function attachBare(pid: number, directory: string): Promise<GdbClient> {
  const stub = await startStub(directory, { clock: systemClock });
  // As ours is: else a busy machine would speak for us.
  runBeforeTheLoad(stub.pid, silentLog);
  const client = await GdbClient.open(stub.transport, { clock: systemClock, log: silentLog, rehearsed: false });
  await client.attach(pid, { stopAll: false });
  return client;
}

type Costs = Record<Arm, Record<Kind, number[]>>;
/** `attached`: forks that lived long enough to be attached to, which costs the program a stop. */
type Run = { readonly costs: Costs; readonly attached: number };

async function measure(rounds: number): Promise<Run> {
  const scratch = await mkdtemp(join(tmpdir(), "holdfast-bench-"));
  await using _scratch = { [Symbol.asyncDispose]: () => rm(scratch, { recursive: true, force: true }) };
  await using alone = await compileOrdered("events");
  await using bare = await compileOrdered("events");
  await using guarded = await compileOrdered("events");
  await using _alone = start(alone);
  await using bareProcess = start(bare);
  await Promise.all([untilReady(alone), untilReady(bare)]);
  await using client = await attachBare(bareProcess.pid, join(scratch, "stub"));
  const where = ["--name", `bench-events-${process.pid}`, "--state", join(scratch, "state")];
  await using guard = new GuardProcess({
    ...{ holdfast: [process.execPath, join(import.meta.dir, "../../src/cli/main.ts")], logPath: join(scratch, "log") },
    guardArguments: [...where, "--", ...guarded.command],
  });
  await guard.guarding();
  const programs: Record<Arm, OrderedProgram> = { alone, bare, guarded };
  const none = (): Record<Kind, number[]> => ({ t: [], f: [], u: [], a: [] });
  const costs: Costs = { alone: none(), bare: none(), guarded: none() };
  for (const arm of arms) for (const kind of order) await batch(programs[arm], kind); // warm
  for (let round = 0; round < rounds; round += 1) {
    const turn = arms.map((_, index) => arms[(index + round) % arms.length]!);
    for (const kind of order) {
      const halves: Record<Arm, number> = { alone: 0, bare: 0, guarded: 0 };
      for (const arm of [...turn, ...turn.toReversed()]) halves[arm] += (await batch(programs[arm], kind)) / 2;
      for (const arm of arms) costs[arm][kind].push(halves[arm]);
    }
  }
  await client.detach();
  const attached = guard.otherEvents.filter((event) => event === "child").length;
  return { costs, attached };
}

function start(program: OrderedProgram): AsyncDisposable & { readonly pid: number } {
  // In a session of its own like the guarded one: the scheduler shares the machine out among sessions.
  const child = Bun.spawn([...program.command], { stdio: ["ignore", "ignore", "ignore"], detached: true });
  return {
    pid: child.pid,
    async [Symbol.asyncDispose]() {
      child.kill("SIGKILL");
      await child.exited;
    },
  };
}

function resultOf(costs: Costs, kind: Kind): Record<string, number | boolean> {
  const ratios = costs.guarded[kind].map((us, index) => us / costs.bare[kind][index]!);
  const { low, high } = medianInterval(ratios, seed);
  const us = (arm: Arm): number => rounded(median(costs[arm][kind]), 2);
  const floorUs = (arm: Arm): number => quantile(costs[arm][kind], floorShare);
  return {
    ...{ aloneUs: us("alone"), bareUs: us("bare"), guardedUs: us("guarded") },
    ...{ ratio: rounded(median(ratios), 3), low95: rounded(low, 3), high95: rounded(high, 3) },
    floorRatio: rounded(floorUs("guarded") / floorUs("bare"), 3),
    within: median(ratios) <= ratioMax,
  };
}

const flags = readFlags(process.argv.slice(2), { rounds: 60 });
const rounds = flags.numbers.rounds!;
const { costs, attached } = await measure(rounds);
const results = Object.fromEntries(order.map((kind) => [kinds[kind], resultOf(costs, kind)]));
const failed = order.filter((kind) => results[kinds[kind]]!.within !== true).map((kind) => kinds[kind]);
const control = controlResult(costs.alone.t);
await publish(
  { name: "events", seed, rounds, results: { ...results, forksAttached: attached, control }, failed_runs: failed },
  flags.json,
);
process.exit(failed.length === 0 ? 0 : 1);
