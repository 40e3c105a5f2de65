// SPDX-License-Identifier: Apache-2.0
/**
 * The verdict on one trial. Gets the report, the decision and what was seen during probation; gives clean, degraded or
 * failed with the reasons in words. Pure.
 *
 * A zombie (alive, not serving) is a failure. Survival is never assumed: without a sign of life there is none.
 */
import type { Applied, Decision, FaultReport, Verdict } from "#fault.ts";
import { isWhole } from "#suppression/site.ts";

export type Evidence = {
  readonly alive: boolean;
  readonly thread: "idle" | "busy" | "gone";
  /** Times the thread waited for anything during probation; null where not known. */
  readonly timesBlocked: number | null;
  /** Locks of abandoned work: threads that still wait for one, and those released because somebody waited. */
  readonly leftovers: { readonly waiters: number; readonly released: number };
  /** What a lock protects was left half changed: it was released in the middle of that, or a piece of it was abandoned. */
  readonly torn?: boolean;
  readonly probeFailures: readonly string[];
  /** Where the fault came of what an earlier act left behind: how many clients have paid for that. Else null. */
  readonly aftermath?: { readonly payers: number } | null;
};

/** One client may be the one whose request did the damage; so many are not. */
const payersMax = 1;

export function judge(
  report: FaultReport,
  decision: Decision,
  applied: Applied,
  evidence: Evidence,
): { readonly verdict: Verdict; readonly because: readonly string[] } {
  const failure = failureOf(evidence, decision);
  if (failure !== null) return { verdict: "failed", because: [failure] };
  const losses = lossesOf(report, decision, applied, evidence);
  const proof = proofOf(decision, evidence);
  return losses.length === 0
    ? { verdict: "clean", because: [proof] }
    : { verdict: "degraded", because: [proof, ...losses] };
}

function proofOf({ edit }: Decision, { thread, timesBlocked }: Evidence): string {
  if (edit.kind === "leave") return "the process has ended in order, as at the end of any connection";
  if (edit.kind === "park") return "the other threads serve";
  if (thread === "idle") return "the thread waits for work again";
  return thread === "gone" ? "the thread has ended, the program serves" : `the thread waited ${timesBlocked} times`;
}

function failureOf(evidence: Evidence, { edit }: Decision): string | null {
  if (!evidence.alive) return "the program is gone";
  if (edit.kind === "leave" && evidence.thread !== "gone") return "the process did not leave when it was told to";
  if (evidence.probeFailures.length > 0) return `probe failed: ${evidence.probeFailures.join("; ")}`;
  const payers = evidence.aftermath?.payers ?? 0;
  if (payers > payersMax) return `what an earlier act left behind has cost ${payers} clients a request`;
  // Whatever is read there from now on may be half of the old and half of the new: nobody can say that it was survived.
  if (evidence.torn === true) return "data under a lock was left half changed";
  const { waiters } = evidence.leftovers;
  if (waiters > 0)
    return `${waiters} thread${waiters === 1 ? " waits" : "s wait"} for a lock that was left behind and cannot be released`;
  if (
    edit.kind !== "park" &&
    evidence.thread === "busy" &&
    !(evidence.timesBlocked !== null && evidence.timesBlocked > 0)
  ) {
    return "the thread never waited for anything again: it hangs";
  }
  return null;
}

function lossesOf(report: FaultReport, decision: Decision, applied: Applied, evidence: Evidence): string[] {
  const losses: string[] = [];
  if (decision.edit.kind === "leave") return losses;
  // A thread that serves one connection ends with it, as it should.
  if (evidence.thread === "gone" && applied.rung !== "quarantine") losses.push("the thread ended");
  if (decision.edit.kind === "neutralise") losses.push("one instruction was completed by hand: a value may be wrong");
  if (decision.edit.kind === "park") losses.push("the thread was given up");
  if (decision.edit.kind === "mend") losses.push("the program had damaged thread-local memory");
  const { released } = evidence.leftovers;
  if (released > 0) losses.push(`${released} lock${released === 1 ? "" : "s"} left behind had to be released`);
  const lost = report.threadsLost ?? 0;
  if (lost > 0) losses.push(`the program ended ${lost} thread${lost === 1 ? "" : "s"} of its own before the abort`);
  if (report.inAllocator) losses.push("the fault was inside the memory allocator");
  if (decision.edit.kind === "abandon" && decision.edit.point.frame >= (report.spine ?? report.frames.length))
    losses.push("a turn of the thread's own loop was given up");
  if (report.spine === null) losses.push("the spine of the thread was not known");
  const { edit } = decision;
  if (edit.kind === "abandon" && !isWhole(report.frames, edit.point.frame, report.architecture)) {
    losses.push("the registers of the code that goes on were not all known");
  }
  if (applied.cutFailure !== null) losses.push(`the blamed session could not be cut: ${applied.cutFailure}`);
  return losses;
}
