// SPDX-License-Identifier: Apache-2.0
/**
 * An act is a trial until proven. Gets a resumed thread; gives an Outcome, after evidence or at the end of probation.
 *
 *     begin ─▶ waiting ──thread idle again, quiet for quietMs, probes pass──▶ clean | degraded
 *                 ├──its thread faults again before going idle, or the program is gone──▶ failed
 *                 └──probationMs over──▶ by the signs of life of the thread
 *
 * Nothing here stops a thread: idleness is read from /proc. A trial has one outcome, whatever arrives first.
 */
import type { Clock } from "#clock.ts";
import type { Applied, Decision, FaultReport, Outcome, PastTrial, Verdict } from "#fault.ts";
import type { Probe } from "#monitor/probes.ts";
import type { Excused } from "#monitor/progress.ts";
import type { TaskGroup } from "#tasks.ts";
import type { Trials } from "./trials.ts";
import { type Evidence, judge } from "./verdict.ts";

export type ProbationLimits = {
  /** Longest wait for evidence, ms. */
  readonly probationMs: number;
  /** After the thread was seen idle, this long without a new fault of its own, ms. */
  readonly quietMs: number;
};

export const defaultProbation: ProbationLimits = { probationMs: 2000, quietMs: 250 };

const firstLookMs = 1;
const lookMsMax = 50;
/** A connection that was left with nobody to read from it is taken for such a one for so long. */
const givenUpMs = 10_000;
const uncutMax = 64;

/** What probation may ask of the program; implemented by the watch. */
export interface SignsOfLife {
  isAlive(): boolean;
  /** `idle`: waits for work; `busy`: somewhere else; `gone`: the thread has ended. */
  threadState(tid: number): "idle" | "busy" | "gone";
  /** Times the thread waited for anything, by its own count; null where it is gone. */
  timesBlocked(tid: number): number | null;
  /** Blocked now, and not for a lock. */
  isWaiting(tid: number): boolean;
  /** What is wrong where requests wait in vain since the thread's last fault. Takes its time only where they do. */
  unserved(tid: number, excused: Excused, signal: AbortSignal): Promise<string | null>;
  /** Threads that wait for a lock of abandoned work which cannot be released, and how many such locks were. */
  leftovers(sinceNs: number): { readonly waiters: number; readonly released: number };
  /** Whether a change to shared data was left half done. `released`: a lock of the abandoned work had to be released. */
  isTorn(report: FaultReport, decision: Decision, released: boolean): boolean;
}

type OpenTrial = {
  readonly past: PastTrial;
  readonly report: FaultReport;
  readonly decision: Decision;
  readonly applied: Applied;
  readonly stopUs: number;
  readonly beganNs: number;
  readonly ended: AbortController;
};

/** What is seen of a process that has ended with its connection. */
const left: Evidence = {
  ...{ alive: true, thread: "gone", timesBlocked: null, probeFailures: [] },
  leftovers: { waiters: 0, released: 0 },
};
const failedBy = (how: string): ReturnType<typeof judge> => ({
  ...{ verdict: "failed", because: [`the program ended: ${how}`] },
});

export class Probation {
  readonly #open = new Map<string, OpenTrial>();
  /** When work was last given up without its session being cut. */
  #uncutNs: number[] = [];

  constructor(
    private readonly life: SignsOfLife,
    private readonly probes: readonly Probe[],
    private readonly limits: ProbationLimits,
    private readonly trials: Trials,
    private readonly tasks: TaskGroup,
    private readonly clock: Clock,
    private readonly record: (outcome: Outcome, report: FaultReport, decision: Decision) => void,
  ) {}

  begin(report: FaultReport, decision: Decision, applied: Applied, stopUs: number): void {
    const trial = {
      past: this.trials.open(report, decision, applied.rung),
      report,
      decision,
      applied,
      stopUs,
      beganNs: this.clock.monotonicNs(),
      ended: new AbortController(),
    };
    this.#open.set(decision.trial, trial);
    if (applied.rung !== "quarantine" && applied.rung !== "neutralise")
      this.#uncutNs = [...this.#uncutNs.slice(1 - uncutMax), trial.beganNs];
    this.tasks.start((signal) => this.#watch(trial, AbortSignal.any([signal, trial.ended.signal])));
  }

  /** Nothing was done. Where nothing was left to be done, that is the outcome: the program ends by its signal. */
  gaveUp(report: FaultReport, decision: Decision, stopUs: number): void {
    if (decision.edit.kind !== "deliver" || decision.edit.reason !== "exhausted") return;
    const { trial, session, reason } = decision;
    const evidence = [reason, "the signal was passed on to the program"];
    this.record(
      { fault: report.id, trial, rung: "restart", verdict: "failed", evidence, stopUs, probationMs: 0, session },
      report,
      decision,
    );
  }

  /** A new fault proves an open trial wrong. */
  refute(past: PastTrial, by: FaultReport): void {
    const trial = this.#open.get(past.trial);
    if (trial === undefined) return;
    const again = by.site.fault === past.site.fault ? "the same site" : `a consequence at ${by.site.fault}`;
    this.#close(trial, "failed", [`the thread faulted again (${again}) before it went idle`]);
  }

  /**
   * The program has ended, with this exit code (null: by a signal, or nobody saw it): every open trial has failed, but those
   * of a process that ends with its connection, and has.
   */
  programEnded(how: string, code: number | null): void {
    for (const trial of [...this.#open.values()]) {
      const ofOne = trial.report.leaveAt != null && code !== null;
      const { verdict, because } = ofOne ? judge(trial.report, trial.decision, trial.applied, left) : failedBy(how);
      this.#close(trial, verdict, because);
    }
  }

  get openTrials(): number {
    return this.#open.size;
  }

  async #watch(trial: OpenTrial, signal: AbortSignal): Promise<void> {
    try {
      const evidence = await this.#gather(trial, signal);
      const { verdict, because } = judge(trial.report, trial.decision, trial.applied, evidence);
      this.#close(trial, verdict, because);
    } catch (error) {
      // Closed by refute or programEnded while it waited; any other end is the owner's own.
      if (!signal.aborted) throw error;
    }
  }

  async #gather(trial: OpenTrial, signal: AbortSignal): Promise<Evidence> {
    const { tid } = trial.report;
    const blockedAtStart = this.life.timesBlocked(tid);
    const endNs = trial.beganNs + this.limits.probationMs * 1e6;
    let idleAtNs: number | null = null;
    for (let lookMs = firstLookMs; ; lookMs = Math.min(lookMs * 2, lookMsMax)) {
      await this.clock.sleep(lookMs, signal);
      const nowNs = this.clock.monotonicNs();
      const thread = this.life.threadState(tid);
      if (thread === "idle") idleAtNs ??= nowNs;
      // How a process ended that was to end is told by programEnded.
      if (trial.report.leaveAt != null && !this.life.isAlive() && nowNs < endNs) continue;
      const quiet = idleAtNs !== null && nowNs - idleAtNs >= this.limits.quietMs * 1e6;
      if (!quiet && thread !== "gone" && nowNs < endNs && this.life.isAlive()) continue;
      const blockedNow = this.life.timesBlocked(tid);
      // A thread that went to wait before we began to count, and has stayed there, has waited too.
      const waited = thread === "busy" && this.life.isWaiting(tid) ? 1 : 0;
      const leftovers = this.life.leftovers(trial.beganNs);
      return {
        alive: this.life.isAlive(),
        thread: idleAtNs !== null ? "idle" : thread,
        timesBlocked:
          blockedAtStart === null || blockedNow === null ? null : Math.max(blockedNow - blockedAtStart, waited),
        leftovers,
        torn: this.life.isTorn(trial.report, trial.decision, leftovers.released > 0),
        aftermath: trial.past.consequence === true ? { payers: this.trials.payersOf(trial.past) } : null,
        probeFailures: await this.#probe(trial, signal),
      };
    }
  }

  async #probe({ report, decision }: OpenTrial, signal: AbortSignal): Promise<string[]> {
    const excused = { peer: decision.session?.peer ?? null, others: this.#givenUpUncut() };
    const asked = this.probes.map((probe) => probe(signal));
    const answers = await Promise.all([this.life.unserved(report.tid, excused, signal), ...asked]);
    return answers.filter((answer) => answer !== null);
  }

  /** Pieces of work of late that were given up while their connections stayed. */
  #givenUpUncut(): number {
    const sinceNs = this.clock.monotonicNs() - givenUpMs * 1e6;
    this.#uncutNs = this.#uncutNs.filter((atNs) => atNs >= sinceNs);
    return this.#uncutNs.length;
  }

  #close(trial: OpenTrial, verdict: Verdict, evidence: readonly string[]): void {
    const { decision, report } = trial;
    if (!this.#open.delete(decision.trial)) return;
    trial.ended.abort();
    const outcome: Outcome = {
      fault: report.id,
      trial: decision.trial,
      rung: trial.applied.rung,
      verdict,
      evidence,
      stopUs: trial.stopUs,
      probationMs: Math.round((this.clock.monotonicNs() - trial.beganNs) / 1e6),
      session: decision.session,
    };
    this.trials.close(decision.trial, verdict);
    this.record(outcome, report, decision);
  }
}
