// SPDX-License-Identifier: Apache-2.0
/**
 * How long a program is without protection when its supervisor was killed and is started again, as the program sees it: the
 * supervisor dies by SIGKILL, the program faults, a new supervisor is started; the time from that start until the faulted
 * work goes on.
 *
 * Each round does so to one program that lives through all of them. Gives the median and the longest time, and the processor
 * time that the new supervisor had used by then: what is left of it is waiting for others. `--rounds N`, `--json FILE`. Exit
 * code 1 where the median passes `comebackMsMax`.
 */
import { readFileSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { systemClock } from "#clock.ts";
import { ProgramError } from "#errors.ts";
import { freshName, GuardRun } from "#tests/peers/guardRun.ts";
import { publish, readFlags, rounded } from "./benchReport.ts";
import { compileOrdered, type OrderedProgram } from "./orderedProgram.ts";
import { median, quantile } from "./statistics.ts";

const comebackMsMax = 1_000;
const lookMs = 1;
const patienceMs = 30_000;
/** Clock ticks of /proc are a hundredth of a second. */
const tickMs = 10;
const highest = 1;

type Round = { readonly backMs: number; readonly processorMs: number; readonly saidMs: number };

const returned = (program: OrderedProgram): number => {
  const bytes = program.shared();
  return bytes.left < 8 ? 0 : Number(bytes.u64());
};

async function untilReturned(program: OrderedProgram, before: number, sinceNs: number): Promise<number> {
  while (returned(program) === before) {
    if (systemClock.monotonicNs() - sinceNs > patienceMs * 1e6)
      throw new ProgramError("program.gone", `the faulted work did not go on within ${patienceMs} ms`);
    await systemClock.sleep(lookMs);
  }
  return (systemClock.monotonicNs() - sinceNs) / 1e6;
}

/** User and system time of a process and its threads, ms. */
function processorMs(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, "latin1").split(") ")[1]!.split(" ");
  return (Number(fields[11]) + Number(fields[12])) * tickMs;
}

async function measure(rounds: number): Promise<Round[]> {
  const scratch = await mkdtemp(join(tmpdir(), "holdfast-bench-"));
  await using _scratch = { [Symbol.asyncDispose]: () => rm(scratch, { recursive: true, force: true }) };
  await using program = await compileOrdered("stop");
  const start = (name: string): GuardRun =>
    new GuardRun(["--name", name, "--state", join(scratch, "state"), "--", ...program.command]);
  const name = freshName("comeback");
  let run = start(name);
  const done: Round[] = [];
  try {
    await run.guarding();
    for (let round = 0; round < rounds; round += 1) {
      const before = returned(program);
      run.signal("SIGKILL");
      await run.end();
      program.order("l");
      const sinceNs = systemClock.monotonicNs();
      run = start(name);
      const backMs = await untilReturned(program, before, sinceNs);
      const used = processorMs(run.pid);
      await run.guarding();
      done.push({ backMs, processorMs: used, saidMs: (systemClock.monotonicNs() - sinceNs) / 1e6 });
    }
  } finally {
    run.signal("SIGTERM");
    await run.end();
  }
  return done;
}

const flags = readFlags(process.argv.slice(2), { rounds: 15 });
const done = await measure(flags.numbers.rounds!);
const of = (pick: (round: Round) => number) => {
  const values = done.map(pick);
  return {
    median: rounded(median(values)),
    least: rounded(quantile(values, 0)),
    most: rounded(quantile(values, highest)),
  };
};
const back = of(({ backMs }) => backMs);
const results = { backMs: back, processorMs: of((round) => round.processorMs), saidMs: of(({ saidMs }) => saidMs) };
const late = done.filter(({ backMs }) => backMs > comebackMsMax);
await publish({ name: "comeback", seed: 0, rounds: done.length, results, failed_runs: late }, flags.json);
process.exit(back.median <= comebackMsMax ? 0 : 1);
