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
import { explain } from "#errors.ts";
import type { Decision, FaultReport, Outcome } from "#fault.ts";
import type { GdbClient } from "#monitor/gdb/client.ts";
import { isAlive, readStatus, readWaitStatus } from "#monitor/processes.ts";
import type { Excused } from "#monitor/progress.ts";
import type { Watch } from "#monitor/watch.ts";
import { TaskGroup } from "#tasks.ts";
import { findSuccessor, type Portrait, portrayProgram, wasShort } from "./daemon.ts";
import { requireSupported } from "./guardable.ts";
import { type ProgramEnd, readEnd, signalProgram } from "./guardedProgram.ts";
import { type GuardEnd, type GuardParts, tellBug } from "./guardParts.ts";
import { describeEnd, hasCode, hopeless, isOperating, reasonOf } from "./guardWords.ts";
import { startHangKeeper } from "./hangKeeper.ts";
import { withoutInterruptions } from "./interruptions.ts";
import { type LaneEnd, type LaneOptions, runLane } from "./lane.ts";
import { clearStub } from "./leftovers.ts";
import type { LockKeeper } from "./lockKeeper.ts";
import { lockKeeperOf, type Present } from "./lockScene.ts";
import { notedRecord } from "./notedRecord.ts";
import { defaultProbation, Probation } from "./probation.ts";
import { Protection } from "./protection.ts";
import { tellRecordState } from "./recordState.ts";
import { rehearsalFor } from "./rehearsal.ts";
import { noteServed, removeRunRecord } from "./runRecord.ts";
import { Settling } from "./settling.ts";
import { sited } from "./sited.ts";
import { removeSpines } from "./spineNotes.ts";
import { keepStubHonest } from "./stubHonesty.ts";
import { Trials } from "./trials.ts";
import { UnfinishedActs } from "./unfinishedActs.ts";
import { Watching } from "./watching.ts";
import { startWithholding, type WithheldCloses } from "./withheldCloses.ts";
import type { Workload } from "./workload.ts";

/** A restart costs everybody his session: it is no answer to so few who are not read from. */
const neglectedMax = 8;
/** Between the loss of a stub and the next try to protect the program again, ms; doubled up to the second value. */
const protectAgainMs = 50;
const protectAgainMsMax = 500;
/** Protection that held for so long was good: what ends it is a new trouble. */
const goodProtectionMs = 1000;
/** A stub may be killed while it attaches. */
const firstTries = 3;
/** A program that never waits for anything counts as guarded after this long all the same. */
const servingPatienceMs = 10_000;
const endPollMs = 20;
/** What a started program gets to end in order, where it could not be guarded. */
const endAgainMs = 3000;

/** null: let go. @throws GdbError, ProgramError where the program could not be protected even once */
export async function runGuard(parts: GuardParts): Promise<GuardEnd | null> {
  const { program, storage, notices, name, clock, family } = parts;
  storage.event("guard.started", name, { pid: program.pid, origin: program.origin });
  await using tasks = new TaskGroup();
  if (family === undefined) tasks.start((signal) => tellRecordState(name, storage, notices, clock, signal));
  const trials =
    family?.trials ?? new Trials(withoutInterruptions(storage.history), parts.rescues, parts.policy.budget.windowMs);
  await using guard = new Guard(parts, trials, tasks);
  let end: ProgramEnd | null;
  try {
    end = await guard.untilEnd();
  } catch (error) {
    await guard.giveUp(error);
    throw error;
  }
  await guard.clear();
  if (end === null) {
    storage.event("guard.letGo", name, { pid: program.pid });
    notices.tell({ event: "unguarded", workload: name, pid: program.pid, reason: "it was let go and runs on" });
    return null;
  }
  storage.event("program.ended", name, { ...end });
  const successor = guard.successor(end);
  if (successor === null) notices.tell({ event: "exit", workload: name, code: end.code, signal: end.signal });
  return { ...end, successor };
}

const stubDirectory = ({ runDirectory }: GuardParts): string => `${runDirectory}/stub`;

class Guard implements AsyncDisposable {
  readonly #probation: Probation;
  readonly #acts: UnfinishedActs;
  readonly #watching: Watching;
  readonly #locks: LockKeeper;
  readonly #closes: WithheldCloses;
  readonly #settling: Settling;
  #present: Present = null;
  #portrait: Portrait | null;
  #served: boolean;
  #everProtected = false;
  #toldWhy = "";

  constructor(
    private readonly parts: GuardParts,
    private readonly trials: Trials,
    private readonly tasks: TaskGroup,
  ) {
    const { probes, clock, storage, notices, program, name, log } = parts;
    const { pid } = program;
    // What another program has left under this name holds for its addresses alone.
    if (!program.served) removeSpines(parts.runDirectory);
    const { nextFaultId } = storage;
    this.#closes = startWithholding(parts, tasks);
    const keepsCut = (): boolean => this.#closes.mayHold;
    this.#watching = new Watching(
      { name, pid, clock, log, nextFaultId, runDirectory: parts.runDirectory, code: parts.code, keepsCut },
      tasks.signal,
    );
    const stuck = (why: string): void => this.#tellStuck(why);
    this.#locks = lockKeeperOf({ name, clock, storage, notices, stuck }, () => this.#present);
    if (program.served) this.#locks.takeOver();
    tasks.start((signal) => this.#locks.run(signal));
    this.#settling = parts.settling ?? new Settling(clock, tasks);
    startHangKeeper(parts, tasks, () => this.#present);
    this.#acts = new UnfinishedActs(parts.runDirectory);
    this.#portrait = program.portrait;
    this.#served = program.served;
    const life = {
      isAlive: () => isAlive(program.pid),
      threadState: (tid: number) => this.#watching.watch?.threadState(tid) ?? "busy",
      leftovers: (sinceNs: number) => ({
        waiters: this.#locks.waitersLeft(),
        released: this.#locks.releasedSince(sinceNs),
      }),
      unserved: async (tid: number, excused: Excused, signal: AbortSignal) =>
        (await this.#watching.watch?.unserved(tid, excused, signal)) ?? null,
      timesBlocked: (tid: number) => readStatus(program.pid, tid)?.voluntarySwitches ?? null,
      isWaiting: (tid: number) => this.#watching.watch?.isWaiting(tid) ?? false,
      isTorn: (report: FaultReport, decision: Decision, released: boolean) =>
        this.#watching.watch?.isTorn(report, decision, released) ?? false,
    };
    this.#probation = new Probation(life, probes, defaultProbation, trials, tasks, clock, (outcome, report, decision) =>
      this.#judged(outcome, report, decision, this.#watching.watch),
    );
  }

  #judged(outcome: Outcome, report: FaultReport, decision: Decision, watch: Watch | null): void {
    const { storage, notices, rescues } = this.parts;
    storage.outcome(outcome);
    notices.outcome(outcome);
    if (decision.edit.kind === "deliver") return;
    rescues.judged(outcome, report, decision, watch?.program ?? null);
    if (outcome.verdict === "failed") this.#tellIll(outcome, report.tid);
  }

  /** A failed act may have left a program that lives and serves nobody: whoever decides on that can ask again. */
  #tellIll({ evidence, session }: Outcome, tid: number): void {
    const excused: Excused = { peer: session?.peer ?? null, others: neglectedMax, unanswered: true };
    const ask = async (signal: AbortSignal): Promise<string | null> => {
      const waiters = this.#locks.waitersLeft();
      if (waiters > 0) return `${waiters} of its threads wait for a lock that cannot be released`;
      return (await this.#watching.watch?.unserved(tid, excused, signal)) ?? null;
    };
    this.parts.news?.({ kind: "ill", why: evidence.join("; "), ask });
  }

  /** Threads that wait for what abandoned work holds for ever: the acts were survived, and then the program was not. */
  #tellStuck(why: string): void {
    const ask = async (): Promise<string | null> => (this.#locks.isStuck() ? why : null);
    this.parts.news?.({ kind: "ill", why, ask });
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
      if (end?.kind === "replaced") continue;
      if (clock.monotonicNs() - beganNs > goodProtectionMs * 1e6) waitMs = protectAgainMs;
      await clock.sleep(waitMs, letGo).catch(() => {});
      waitMs = Math.min(waitMs * 2, protectAgainMsMax);
    }
    return null;
  }

  /** Ends what was begun, where the program could not be guarded; says what is left where the error is a bug of ours. */
  async giveUp(error: unknown): Promise<void> {
    const { program, notices, name } = this.parts;
    if (this.#everProtected || !isOperating(error)) {
      tellBug(this.parts);
      return;
    }
    await this.clear();
    if (program.origin !== "started") return;
    const reason = "it could not be guarded, and is ended again";
    notices.tell({ event: "unguarded", workload: name, pid: program.pid, reason });
    await this.#endProgram();
  }

  /** Nothing of this guard stays in its run directory. */
  async clear(): Promise<void> {
    await clearStub(stubDirectory(this.parts), this.parts.clock);
    this.#acts.clear();
    removeSpines(this.parts.runDirectory);
    removeRunRecord(this.parts.runDirectory);
  }

  /** The process in which the program lives on, where it has only gone to the background. */
  successor({ code }: ProgramEnd): number | null {
    const { family, heir, program } = this.parts;
    const portrait = this.#portrait;
    if (code !== 0 || family !== undefined || portrait === null || program.origin === "attached") return null;
    return heir?.(portrait) ?? (wasShort(portrait) ? findSuccessor(portrait) : null);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#watching[Symbol.asyncDispose]();
  }

  /** One protection, until it ends; null where it could not begin and is to be tried again. */
  async #protect(tries: number): Promise<LaneEnd | null> {
    const { storage, name, program, runDirectory, log } = this.parts;
    try {
      const end = await this.#protectOnce();
      if (end.kind === "ended") this.#probation.programEnded(describeEnd(end), end.code);
      if (end.kind === "replaced") {
        await this.#watching.forget();
        this.#served = false;
        noteServed(runDirectory, false);
      }
      if (end.kind === "stubLost" || end.kind === "retired") {
        storage.event(`guard.${end.kind}`, name, { why: end.why });
        this.#tellUnguarded(reasonOf(end));
      }
      return end;
    } catch (error) {
      if (!isAlive(program.pid)) return null;
      const again = this.#everProtected || (tries < firstTries && hasCode(error, ["gdb.closed"]));
      if (!isOperating(error) || !again) throw error;
      log("warn", "guard.protectFailed", { why: explain(error) });
      if (this.#everProtected) this.#tellUnguarded(explain(error));
      return hasCode(error, hopeless) ? { kind: "retired", why: explain(error) } : null;
    }
  }

  /** Once for each reason: a stub that cannot be replaced is tried for every second. */
  #tellUnguarded(reason: string): void {
    const { notices, name, program } = this.parts;
    if (reason === this.#toldWhy || !isAlive(program.pid)) return;
    this.#toldWhy = reason;
    notices.tell({ event: "unguarded", workload: name, pid: program.pid, reason });
  }

  async #protectOnce(): Promise<LaneEnd> {
    const { program, clock, log, trace, letGo, storage, name, nursery, claim } = this.parts;
    if (this.#everProtected) requireSupported(program.pid);
    const runDirectory = stubDirectory(this.parts);
    await using protection = await Protection.open({ pid: program.pid, runDirectory, clock, log, trace, claim });
    const { client } = protection;
    const { watch, fresh, looking } = await this.#look(protection);
    this.#everProtected = true;
    this.parts.news?.({ kind: "attached" });
    this.#portrait = portrayProgram(program.pid) ?? this.#portrait;
    this.#present = { watch, client };
    await using tasks = new TaskGroup();
    const workload = this.#workload(watch, client);
    tasks.start((signal) => this.#announce(watch, workload, fresh, signal));
    await nursery?.begin({
      ...{ client, tasks, clock, log },
      watchOf: (pid) => this.#watching.open(pid, client),
      workloadOf: (newborn) => this.#workload(newborn, client),
      judged: (outcome, report, decision, newborn) => this.#judged(outcome, report, decision, newborn),
    });
    tasks.start((signal) => keepStubHonest(protection, program.pid, clock, signal));
    const sinceNs = clock.monotonicNs();
    const unfinished: LaneOptions["unfinished"] = ({ tid, signal, atNs }) => {
      const act = atNs > sinceNs ? null : this.#acts.take(tid, signal);
      if (act !== null) storage.event("act.finished", name, { fault: act.fault, tid });
      return act?.registers ?? null;
    };
    const release = async (): Promise<void> => {
      await nursery?.letGoAll();
      await protection.release();
    };
    const lane = runLane({ pid: program.pid, workload, client, nursery, unfinished, letGo, release });
    const end = await Promise.race([lane, tasks.failed, looking.failed, this.tasks.failed]).finally(() => {
      this.#present = null;
    });
    if (end.kind === "retired") await release();
    else if (end.kind !== "replaced") await protection.endStub();
    return end;
  }

  /** Where its code cannot be read, the program is let go. @throws ProgramError, BinaryError */
  async #look(protection: Protection): Promise<ReturnType<Watching["look"]>> {
    try {
      return this.#watching.look(protection.client);
    } catch (error) {
      await protection.release();
      throw error;
    }
  }

  #workload(watch: Watch, client: GdbClient): Workload {
    const { name, clock, storage, notices, policy, suppression, lanes } = this.parts;
    const report: Workload["watch"]["report"] = async (stop) => {
      const reading = watch.report(stop, client);
      // Its stub has been asked and takes its time: the intent that follows finds its code and its ring at hand.
      storage.warm();
      const { report, control } = await reading;
      return { report: sited({ ...report, serving: report.serving || this.#served }), control };
    };
    return {
      name,
      clock,
      get policy() {
        return suppression.policyOf(name, policy);
      },
      watch: { report },
      storage: notedRecord(storage, this.#acts, this.#closes),
      trials: this.trials,
      probation: this.#probation,
      locks: this.#locks,
      notices,
      ...(lanes === undefined ? {} : { working: () => lanes.begin(name) }),
    };
  }

  /** Says "guarding" once the attach is complete and the program was seen waiting for work. */
  async #announce(watch: Watch, workload: Workload, fresh: boolean, signal: AbortSignal): Promise<void> {
    const { name, notices, program, runDirectory } = this.parts;
    const serving = fresh ? await watch.untilServing(servingPatienceMs, signal) : this.#served;
    if (fresh) {
      const round = rehearsalFor(workload);
      const rehearse = (rounds: number) => watch.rehearse(rounds, (report) => round(sited(report)), signal);
      await this.#settling.rehearse(rehearse, this.parts.family !== undefined);
    }
    if (signal.aborted || !watch.isAlive()) return;
    this.#served ||= serving;
    this.#toldWhy = "";
    if (serving) noteServed(runDirectory, true);
    this.parts.storage.event("guard.protected", name, { pid: program.pid, ...watch.program });
    this.parts.rescues.adopted(name, watch.program);
    this.parts.news?.({ kind: "guarding", serving });
    notices.tell({
      event: "guarding",
      workload: name,
      pid: program.pid,
      threads: watch.threadCount,
      attached: program.origin !== "started",
      serving,
    });
  }

  /** A child's end as its parent was told; it knows the exit code even when the stub died first. */
  async #endOf(told: LaneEnd | null): Promise<ProgramEnd> {
    const { program } = this.parts;
    const seen = readWaitStatus(program.pid);
    await clearStub(stubDirectory(this.parts), this.parts.clock);
    const end = program.ended !== null ? await program.ended : told?.kind === "ended" ? told : readEnd(seen);
    this.#probation.programEnded(describeEnd(end), end.code);
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
