// SPDX-License-Identifier: Apache-2.0
/**
 * One guard: a program, its state, its protection, from start to end. Gets options and a signal to let go; gives how the
 * program ended, or null where it was let go.
 *
 *     program ─▶ protect ─▶ lane … ─stub lost─▶ protect again
 *                             └─program ended, or let go─▶ its stub is ended, its run directory cleared
 *
 * Whatever fails here, a program that serves is never stopped for it. Only one that we have started ourselves, and that
 * could not be guarded from the beginning, is ended again, so that nothing runs which nobody asked for.
 */
import { hex } from "#bytes.ts";
import type { Clock } from "#clock.ts";
import { explain, HoldfastError } from "#errors.ts";
import type { FaultReport } from "#fault.ts";
import type { Log } from "#log.ts";
import type { UnsitedReport } from "#monitor/faultDecoder.ts";
import type { WireTrace } from "#monitor/gdb/trace.ts";
import type { Probe } from "#monitor/probes.ts";
import { isAlive, readStatus, readWaitStatus } from "#monitor/processes.ts";
import type { Watch } from "#monitor/watch.ts";
import type { Storage } from "#storage/storage.ts";
import type { Policy } from "#suppression/plan.ts";
import { siteOf } from "#suppression/site.ts";
import { TaskGroup } from "#tasks.ts";
import { findSuccessor, type Portrait, portrayProgram } from "./daemon.ts";
import { type GuardedProgram, type ProgramEnd, readEnd, signalProgram } from "./guardedProgram.ts";
import { type LaneEnd, runLane } from "./lane.ts";
import { clearStub } from "./leftovers.ts";
import { LockKeeper, type LockRelease, type LockScene } from "./lockKeeper.ts";
import type { Notices } from "./notices.ts";
import { defaultProbation, Probation } from "./probation.ts";
import { Protection } from "./protection.ts";
import { tellRecordState } from "./recordState.ts";
import { rehearse } from "./rehearsal.ts";
import { removeRunRecord } from "./runRecord.ts";
import { Trials } from "./trials.ts";
import type { Workload } from "./workload.ts";

/** Between the loss of a stub and the next try to protect the program again, ms; doubled up to the second value. */
const protectAgainMs = 50;
const protectAgainMsMax = 1000;
/** Protection that held for so long was good: what ends it is a new trouble. */
const goodProtectionMs = 5000;
/** A stub may be killed while it attaches. */
const firstTries = 3;
/** A program that never waits for anything counts as guarded after this long all the same. */
const servingPatienceMs = 10_000;
const stubLookMs = 1000;
/** The stub is asked for something every so many looks. */
const looksPerQuestion = 5;
const endPollMs = 20;
/** What a started program gets to end in order, where it could not be guarded. */
const endAgainMs = 3000;
/** Enough for the run-time compiler to have compiled what the fault path runs (measured: 10 ms a fault before, 1 ms after). */
const rehearsalRounds = 200;

export type GuardParts = {
  readonly name: string;
  readonly program: GuardedProgram;
  readonly runDirectory: string;
  readonly storage: Storage;
  readonly notices: Notices;
  readonly probes: readonly Probe[];
  readonly policy: Policy;
  readonly clock: Clock;
  readonly log: Log;
  readonly trace?: WireTrace | undefined;
  /** Aborts when the guard is to let go of the program and leave it running. */
  readonly letGo: AbortSignal;
};

/** null: let go. @throws GdbError, ProgramError where the program could not be protected even once */
export async function runGuard(parts: GuardParts): Promise<ProgramEnd | null> {
  const { program, storage, notices, name, clock } = parts;
  storage.event("guard.started", name, { pid: program.pid, origin: program.origin });
  await using tasks = new TaskGroup();
  tasks.start((signal) => tellRecordState(name, storage, notices, clock, signal));
  const trials = new Trials(storage.history);
  const guard = new Guard(parts, trials, tasks);
  let end: ProgramEnd | null;
  try {
    end = await guard.untilEnd();
  } catch (error) {
    await guard.giveUp(error);
    throw error;
  }
  await clearStub(stubDirectory(parts), clock);
  removeRunRecord(parts.runDirectory);
  if (end === null) {
    storage.event("guard.letGo", name, { pid: program.pid });
    notices.tell({ event: "unguarded", workload: name, pid: program.pid, reason: "it was let go and runs on" });
    return null;
  }
  storage.event("program.ended", name, { ...end });
  guard.tellSuccessor();
  notices.tell({ event: "exit", workload: name, code: end.code, signal: end.signal });
  return end;
}

/** Says what a bug of ours leaves behind. */
export function tellBug({ notices, name, program }: Pick<GuardParts, "notices" | "name" | "program">): void {
  const reason = `a bug of Holdfast ends its supervisor; it runs on, but a fault stops its thread until guard is started anew with --name ${name}`;
  notices.tell({ event: "unguarded", workload: name, pid: program.pid, reason });
}

const stubDirectory = ({ runDirectory }: GuardParts): string => `${runDirectory}/stub`;

class Guard {
  readonly #probation: Probation;
  #watch: Watch | null = null;
  #locks: LockKeeper | null = null;
  #portrait: Portrait | null = null;
  #everProtected = false;

  constructor(
    private readonly parts: GuardParts,
    private readonly trials: Trials,
    private readonly tasks: TaskGroup,
  ) {
    const { probes, clock, storage, notices, program } = parts;
    this.#portrait = program.portrait;
    const life = {
      isAlive: () => isAlive(program.pid),
      threadState: (tid: number) => this.#watch?.threadState(tid) ?? "busy",
      leftovers: (sinceNs: number) => ({
        waiters: this.#locks?.waitersLeft() ?? 0,
        released: this.#locks?.releasedSince(sinceNs) ?? 0,
      }),
      timesBlocked: (tid: number) => readStatus(program.pid, tid)?.voluntarySwitches ?? null,
    };
    this.#probation = new Probation(life, probes, defaultProbation, trials, tasks, clock, (outcome) => {
      storage.outcome(outcome);
      notices.outcome(outcome);
    });
  }

  /** null: let go. */
  async untilEnd(): Promise<ProgramEnd | null> {
    const { letGo, clock } = this.parts;
    let waitMs = protectAgainMs;
    for (let tries = 1; !letGo.aborted; tries += 1) {
      const beganNs = clock.monotonicNs();
      const end = await this.#protect(tries);
      if (end?.kind === "letGo") return null;
      if (end?.kind === "retired") return await this.#untilEndUnguarded();
      if (end?.kind === "ended" || !isAlive(this.parts.program.pid)) return await this.#endOf(end);
      if (clock.monotonicNs() - beganNs > goodProtectionMs * 1e6) waitMs = protectAgainMs;
      await clock.sleep(waitMs, letGo).catch(() => {});
      waitMs = Math.min(waitMs * 2, protectAgainMsMax);
    }
    return null;
  }

  /** Ends what was begun, where the program could not be guarded; says what is left where the error is a bug of ours. */
  async giveUp(error: unknown): Promise<void> {
    const { program, notices, name, runDirectory, clock } = this.parts;
    if (this.#everProtected || !(error instanceof HoldfastError) || error.code === "bug") {
      tellBug(this.parts);
      return;
    }
    await clearStub(stubDirectory(this.parts), clock);
    removeRunRecord(runDirectory);
    if (program.origin !== "started") return;
    const reason = "it could not be guarded, and is ended again";
    notices.tell({ event: "unguarded", workload: name, pid: program.pid, reason });
    await this.#endProgram();
  }

  /** Says so where the program has only gone to the background. */
  tellSuccessor(): void {
    const { notices, name, program } = this.parts;
    const successor = this.#portrait === null ? null : findSuccessor(this.#portrait);
    if (successor === null) return;
    const text = `process ${program.pid} has ended and left process ${successor} of the same program in the background, which is not guarded: start ${name} so that it stays in the foreground, or guard it by holdfast guard --pid ${successor}`;
    notices.tell({ event: "warning", workload: name, text });
  }

  /** One protection, until it ends; null where it could not begin and may be tried again. */
  async #protect(tries: number): Promise<LaneEnd | null> {
    const { storage, notices, name, program, log } = this.parts;
    try {
      const end = await this.#protectOnce();
      if (end.kind === "ended") this.#probation.programEnded(describeEnd(end));
      if (end.kind !== "stubLost" && end.kind !== "retired") return end;
      storage.event(`guard.${end.kind}`, name, { why: end.why });
      if (isAlive(program.pid))
        notices.tell({ event: "unguarded", workload: name, pid: program.pid, reason: reasonOf(end) });
      return end;
    } catch (error) {
      if (!isAlive(program.pid)) return null;
      const passing = error instanceof HoldfastError && error.code !== "bug";
      const again = this.#everProtected || (tries < firstTries && passing && error.code === "gdb.closed");
      if (!passing || !again) throw error;
      log("warn", "guard.protectFailed", { why: explain(error) });
      return null;
    }
  }

  async #protectOnce(): Promise<LaneEnd> {
    const { program, storage, name, clock, log, trace, letGo } = this.parts;
    await using protection = await Protection.open({
      workload: name,
      pid: program.pid,
      runDirectory: stubDirectory(this.parts),
      clock,
      log,
      nextFaultId: storage.nextFaultId,
      trace,
    });
    const { watch, client } = protection;
    this.#everProtected = true;
    this.#watch = watch;
    this.#portrait = portrayProgram(program.pid) ?? this.#portrait;
    await using tasks = new TaskGroup();
    const locks = lockKeeperOf(this.parts, protection);
    this.#locks = locks;
    const workload = workloadOf(this.parts, protection, this.trials, this.#probation, locks);
    tasks.start((signal) => locks.run(signal));
    tasks.start((signal) => watch.learn(signal));
    tasks.start((signal) => watch.prepare(signal));
    tasks.start((signal) => announce(this.parts, protection, workload, signal));
    tasks.start((signal) => keepStubHonest(protection, program.pid, clock, signal));
    const lane = runLane(workload, watch, client, letGo, () => protection.release());
    const end = await Promise.race([lane, tasks.failed, this.tasks.failed]);
    if (end.kind === "retired") await protection.release();
    else await protection.endStub();
    return end;
  }

  /** A child's end as its parent was told; it knows the exit code even when the stub died first. */
  async #endOf(told: LaneEnd | null): Promise<ProgramEnd> {
    const { program } = this.parts;
    const seen = readWaitStatus(program.pid);
    await clearStub(stubDirectory(this.parts), this.parts.clock);
    const end = program.ended !== null ? await program.ended : told?.kind === "ended" ? told : readEnd(seen);
    this.#probation.programEnded(describeEnd(end));
    return { code: end.code, signal: end.signal };
  }

  /** Unprotected from here on: waits for the end of the program, or for the request to let go. */
  async #untilEndUnguarded(): Promise<ProgramEnd | null> {
    const { program, clock, letGo } = this.parts;
    while (!letGo.aborted) {
      if (!isAlive(program.pid)) return await this.#endOf(null);
      await clock.sleep(endPollMs, letGo).catch(() => {});
    }
    return null;
  }

  async #endProgram(): Promise<void> {
    const { program, clock } = this.parts;
    signalProgram(program.pid, "SIGTERM");
    const endNs = clock.monotonicNs() + endAgainMs * 1e6;
    while (isAlive(program.pid) && clock.monotonicNs() < endNs) await clock.sleep(endPollMs);
    if (isAlive(program.pid)) signalProgram(program.pid, "SIGKILL");
    await program.ended;
  }
}

function lockKeeperOf({ name, clock, storage, notices }: GuardParts, { watch, client }: Protection): LockKeeper {
  const scene: LockScene = {
    lockWaits: () => watch.lockWaits(),
    threadState: (tid) => watch.threadState(tid),
    readMemory: (from, bytes) => watch.readMemory(from, bytes),
    whileStopped: (tid, work) => watch.whileStopped(tid, client, work),
  };
  const told = ({ at, owner, waiter }: LockRelease): void => {
    storage.event("lock.released", name, { at: hex(at), owner, waiter });
    notices.tell({ event: "released", workload: name, address: hex(at), owner, waiter });
  };
  return new LockKeeper(scene, clock, told, (why) => storage.event("lock.failed", name, { why }));
}

function workloadOf(
  parts: GuardParts,
  protection: Protection,
  trials: Trials,
  probation: Probation,
  locks: LockKeeper,
): Workload {
  const { name, clock, storage, notices, policy } = parts;
  const { watch, client } = protection;
  return {
    name,
    clock,
    policy,
    watch: {
      report: async (stop) => {
        const { report, control } = await watch.report(stop, client);
        return { report: sited(report), control };
      },
    },
    storage,
    trials,
    probation,
    locks,
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

/**
 * Ends a stub that does not do its part: one that answers no more, and one that keeps the end of the program from us.
 * Either is then lost, and the guard goes on from there.
 */
async function keepStubHonest(protection: Protection, pid: number, clock: Clock, signal: AbortSignal): Promise<void> {
  for (let look = 1; ; look += 1) {
    await clock.sleep(stubLookMs, signal);
    if (!isAlive(pid)) {
      await clock.sleep(stubLookMs, signal);
      return await protection.endStub();
    }
    if (look % looksPerQuestion === 0) await protection.client.threads(signal).catch(() => {}); // It is lost by then.
  }
}

const describeEnd = (end: ProgramEnd): string =>
  end.signal ?? (end.code === null ? "nobody saw how" : `exit code ${end.code}`);

const reasonOf = (end: Extract<LaneEnd, { kind: "stubLost" | "retired" }>): string =>
  end.kind === "stubLost"
    ? `its debugger stub is lost and will be replaced at once: ${end.why}`
    : `a bug of Holdfast, see above; it runs on by itself until guard is started anew`;
