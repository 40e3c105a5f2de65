// SPDX-License-Identifier: Apache-2.0
/**
 * One guard: a program, its state, its protection, from start to end. Gets options and a source of requests to stop; gives
 * the exit code.
 *
 *     storage ─▶ program (start | attach | take over) ─▶ protect ─▶ lane … ─stub lost─▶ protect again
 *                                                                       └─program ended, or let go─▶ exit
 *
 * Whatever fails here, the program itself is never stopped for it.
 */
import type { Clock } from "#clock.ts";
import { explain, HoldfastError } from "#errors.ts";
import type { FaultReport, Outcome } from "#fault.ts";
import type { Log } from "#log.ts";
import type { UnsitedReport } from "#monitor/faultDecoder.ts";
import type { WireTrace } from "#monitor/gdb/trace.ts";
import type { Probe } from "#monitor/probes.ts";
import { isAlive } from "#monitor/processes.ts";
import type { Storage } from "#storage/storage.ts";
import { defaultPolicy } from "#suppression/plan.ts";
import { siteOf } from "#suppression/site.ts";
import { TaskGroup } from "#tasks.ts";
import { exitCodeOf, type GuardedProgram, type ProgramEnd, signalProgram } from "./guardedProgram.ts";
import { type LaneEnd, runLane } from "./lane.ts";
import type { Notices } from "./notices.ts";
import { defaultProbation, Probation } from "./probation.ts";
import { Protection } from "./protection.ts";
import { rehearse } from "./rehearsal.ts";
import { removeRunRecord } from "./runRecord.ts";
import { Trials } from "./trials.ts";
import type { Workload } from "./workload.ts";

/** Between the loss of a stub and the next try to protect the program again, ms; doubled up to the second value. */
const protectAgainMs = 50;
const protectAgainMsMax = 1000;
/** A program that never waits for anything counts as guarded after this long all the same. */
const servingPatienceMs = 10_000;
const endPollMs = 20;
/** Enough for the run-time compiler to have compiled what the fault path runs (measured: 10 ms a fault before, 1 ms after). */
const rehearsalRounds = 200;

export type GuardParts = {
  readonly name: string;
  readonly program: GuardedProgram;
  readonly runDirectory: string;
  readonly storage: Storage;
  readonly notices: Notices;
  readonly probes: readonly Probe[];
  readonly clock: Clock;
  readonly log: Log;
  readonly trace?: WireTrace | undefined;
  /** Aborts when the guard is to let go of the program and leave it running. */
  readonly letGo: AbortSignal;
};

export async function runGuard(parts: GuardParts): Promise<number> {
  const { program, storage, notices, name } = parts;
  const trials = new Trials(storage.history);
  storage.event("guard.started", name, { pid: program.pid, origin: program.origin });
  const end = await guardUntilEnd(parts, trials);
  if (end === null) {
    storage.event("guard.letGo", name, { pid: program.pid });
    notices.tell({ event: "unguarded", workload: name, pid: program.pid, reason: "it was let go and runs on" });
    removeRunRecord(parts.runDirectory);
    return 0;
  }
  storage.event("program.ended", name, { ...end });
  removeRunRecord(parts.runDirectory);
  notices.tell({ event: "exit", workload: name, code: end.code, signal: end.signal });
  return exitCodeOf(end);
}

/** null: let go. @throws GdbError, ProgramError where the program could not be protected even once */
async function guardUntilEnd(parts: GuardParts, trials: Trials): Promise<ProgramEnd | null> {
  const { program, storage, notices, name, clock, letGo } = parts;
  let protectedOnce = false;
  let waitMs = protectAgainMs;
  while (!letGo.aborted) {
    try {
      const end = await protectOnce(parts, trials);
      protectedOnce = true;
      waitMs = protectAgainMs;
      if (end.kind === "ended") return await endOf(program, end);
      if (end.kind === "closed") return null;
      storage.event(`guard.${end.kind}`, name, { why: end.why });
      notices.tell({ event: "unguarded", workload: name, pid: program.pid, reason: end.why });
      if (end.kind === "retired") return await untilEnd(program, clock, letGo);
    } catch (error) {
      if (!isAlive(program.pid)) return await endOf(program, { code: null, signal: null });
      if (!(error instanceof HoldfastError) || !protectedOnce) throw error;
      parts.log("warn", "guard.protectFailed", { why: explain(error) });
    }
    if (!isAlive(program.pid)) return await endOf(program, { code: null, signal: null });
    await clock.sleep(waitMs, letGo).catch(() => {});
    waitMs = Math.min(waitMs * 2, protectAgainMsMax);
  }
  return null;
}

async function protectOnce(parts: GuardParts, trials: Trials): Promise<LaneEnd> {
  const { program, storage, name, clock, log, runDirectory, trace, letGo } = parts;
  const protection = await Protection.open({
    workload: name,
    pid: program.pid,
    runDirectory: `${runDirectory}/stub`,
    clock,
    log,
    nextFaultId: storage.nextFaultId,
    trace,
  });
  await using _protection = protection;
  await using tasks = new TaskGroup();
  const workload = workloadOf(parts, protection, trials, tasks);
  const release = (): void =>
    void protection.release().catch((error) => log("error", "guard.letGoFailed", { why: explain(error) }));
  letGo.addEventListener("abort", release, { once: true });
  try {
    if (letGo.aborted) release();
    tasks.start((signal) => protection.watch.learn(signal));
    tasks.start((signal) => protection.watch.prepare(signal));
    tasks.start((signal) => announce(parts, protection, workload, signal));
    const end = await Promise.race([runLane(workload, protection.watch, protection.client), tasks.failed]);
    workload.probation.programEnded(end.kind === "ended" ? describeEnd(end) : "protection ended");
    if (end.kind === "retired") await protection.release();
    else if (end.kind !== "closed") protection.endStub();
    return end;
  } finally {
    letGo.removeEventListener("abort", release);
  }
}

function workloadOf(parts: GuardParts, protection: Protection, trials: Trials, tasks: TaskGroup): Workload {
  const { name, clock, storage, notices, probes } = parts;
  const { watch, client } = protection;
  const record = (outcome: Outcome): void => {
    storage.outcome(outcome);
    notices.outcome(outcome);
  };
  return {
    name,
    clock,
    policy: defaultPolicy,
    watch: {
      report: async (stop) => {
        const { report, control } = await watch.report(stop, client);
        return { report: sited(report), control };
      },
    },
    storage,
    trials,
    probation: new Probation(watch, probes, defaultProbation, trials, tasks, clock, record),
    notices,
  };
}

const sited = (report: UnsitedReport): FaultReport => ({
  ...report,
  site: siteOf(report.frames, report.modules, report.spine, report.signal),
});

/** Says "guarding" once the attach is complete and the program was seen waiting for work. */
async function announce(
  { name, notices, program }: GuardParts,
  protection: Protection,
  workload: Workload,
  signal: AbortSignal,
): Promise<void> {
  const { watch } = protection;
  const serving = await watch.untilServing(servingPatienceMs, signal);
  await watch.rehearse(rehearsalRounds, (report) => rehearse(workload, sited(report)), signal);
  if (signal.aborted || !protection.watch.isAlive()) return;
  notices.tell({
    event: "guarding",
    workload: name,
    pid: program.pid,
    threads: protection.watch.threadCount,
    attached: program.origin !== "started",
    serving,
  });
}

/** A child's end as its parent was told; it knows the exit code even when the stub died first. */
async function endOf(program: GuardedProgram, told: ProgramEnd): Promise<ProgramEnd> {
  if (program.ended === null) return { code: told.code, signal: told.signal };
  return await program.ended;
}

/** Unprotected from here on: waits for the end of the program, or for the request to let go. */
async function untilEnd(program: GuardedProgram, clock: Clock, letGo: AbortSignal): Promise<ProgramEnd | null> {
  while (!letGo.aborted) {
    if (!isAlive(program.pid)) return await endOf(program, { code: null, signal: null });
    await clock.sleep(endPollMs, letGo).catch(() => {});
  }
  return null;
}

const describeEnd = (end: ProgramEnd): string => (end.signal === null ? `exit code ${end.code}` : end.signal);

/** Asks the program to end, as a service manager would; a second request ends it at once. */
export function stopInOrder(program: GuardedProgram, request: "SIGINT" | "SIGTERM", asked: number): void {
  signalProgram(program.pid, asked === 0 ? request : "SIGKILL");
}
