// SPDX-License-Identifier: Apache-2.0
/**
 * Chooses the one edit that is done now. Gets the report, the plan, the trials remembered and the policy; gives a Decision.
 *
 * Pure. An edit that failed at this site is not tried again as long as there is another one. A trial still on probation
 * has failed when its thread faults again and nothing shows that the thread came back to its idle point in between:
 * at another site at once; at its own site only for the same session, or where the same work is seen again
 * `sameWorkMax` times. Other work that faults there says nothing against the act: the state is bad, and each piece of
 * work that meets it pays for itself.
 */
import type { Decision, DeliverReason, Edit, FaultReport, PastTrial, Plan, Session, Spent, TrialId } from "#fault.ts";
import { type ActLimits, isTested, keyOf, type Policy } from "#suppression/plan.ts";
import { blameConfidence, findSession } from "#suppression/sessionFinder.ts";
import { faultingFrame, interfaceFrame, workOf } from "#suppression/site.ts";

/** So many different old sessions at one site within the window, and the state is blamed instead of them. */
const veteransMin = 2;
const stateWindowMs = 60_000;
/** Waits are counted that the debugger itself causes (a passed signal), so faults may come in a loop for so long. */
const endlessMs = 1000;
const mendKey = "mend";
const mendsMax = 64;
/** The same work that faults again after so many trials of one edit: the edit does not help. */
const sameWorkMax = 2;
/** Open trials of one site on a thread that never goes idle: whatever work it is, nothing gets done. */
const openMax = 64;
/** Trials that failed at a site on one thread in a short time, after which going round once more is a loop. */
const loopMax = 12;
const loopWindowMs = 10_000;
const unspent: Spent = { site: 0, program: 0 };
/** Least confidence at which two faults count as the same session's. */
const sameSessionConfidence = 0.5;

export function decide(
  report: FaultReport,
  plan: Plan,
  trials: readonly PastTrial[],
  policy: Policy,
  spent: Spent = unspent,
): Decision {
  const trial = nextTrial(report, trials);
  if (plan.kind === "deliver") {
    const because = plan.reason === "disabled" ? "suppression is switched off" : "the signal belongs to the program";
    return deliver(report, trial, plan.reason, because, trials);
  }
  const over = overBudget(spent, policy.budget);
  if (over !== null) return { ...deliver(report, trial, "exhausted", over, trials), spent };
  const consequences = openSites(report, trials);
  if (consequences > policy.consequencesMax) {
    return deliver(
      report,
      trial,
      "exhausted",
      `${consequences} sites faulted on this thread without it going idle`,
      trials,
    );
  }
  const blamed = findSession(report.sessions);
  const failed = failedKeys(report, trials);
  const state = blamesState(report, trials);
  const inOrder = (state ? inwardFirst(report, plan.edits, trials) : plan.edits).filter((edit) =>
    isInBudget(edit, report, trials, policy),
  );
  const fresh = inOrder.find((edit) => !failed.has(keyOf(report, edit)));
  const edit = fresh ?? (isLoop(report, trials) ? undefined : inOrder.find(isRepeatable));
  if (edit === undefined) {
    return deliver(report, trial, "exhausted", `all ${plan.edits.length} edits for this site have failed`, trials);
  }
  const key = keyOf(report, edit);
  const cut = isCut(report, edit, blamed, policy);
  const reason = state ? "different sessions fault here: the state is blamed" : reasonFor(key, failed, trials);
  return { trial, edit, key, session: blamed, cut, reason, past: trials };
}

function overBudget({ site, program }: Spent, { siteActsMax, programActsMax, windowMs }: ActLimits): string | null {
  if (site >= siteActsMax) return `${site} acts at this site within ${windowMs} ms: its budget is spent`;
  return program >= programActsMax ? `${program} acts within ${windowMs} ms: the program's budget is spent` : null;
}

/** An edit that ends one piece of work, and not the thread's ability to do others. */
const isRepeatable = ({ kind }: Edit): boolean => kind === "abandon" || kind === "neutralise";

function isInBudget(edit: Edit, report: FaultReport, trials: readonly PastTrial[], policy: Policy): boolean {
  if (edit.kind === "mend") return openMends(report, trials) < mendsMax;
  if (edit.kind !== "neutralise") return true;
  const done = trials.filter((past) => past.rung === "neutralise" && past.key !== mendKey && isOurs(past));
  return done.length < policy.neutralisedMax;
}

/** Trials on probation that this fault proves wrong: same thread, and the thread never went idle since. Pure. */
export function refuted(report: FaultReport, trials: readonly PastTrial[]): PastTrial[] {
  const open = openOn(report, trials);
  const here = open.filter((past) => past.site.fault === report.site.fault);
  if (here.length === 0 || here.length >= openMax || isEndless(report, open)) return open;
  const work = workOf(report);
  const session = findSession(report.sessions);
  const isSameWork = (past: PastTrial): boolean =>
    here.filter((other) => other.key === past.key && other.work === work).length >= sameWorkMax;
  return open.filter((past) => !here.includes(past) || isSameSession(past.session, session) || isSameWork(past));
}

function isSameSession(one: Session | null, other: Session | null): boolean {
  if (one === null || other === null || one.peer !== other.peer) return false;
  return Math.min(one.confidence, other.confidence) >= sameSessionConfidence;
}

/**
 * All edits have failed: whether to go through them once more is no use. Where the thread comes back here alive after each
 * act, every act has worked for the work it was done to; so it goes on, up to `loopMax` rounds.
 */
function isLoop(report: FaultReport, trials: readonly PastTrial[]): boolean {
  const since = report.atMs - loopWindowMs;
  const isHere = (past: PastTrial): boolean => past.site.fault === report.site.fault && past.tid === report.tid;
  const failed = trials.filter((past) => isHere(past) && past.verdict === "failed" && past.atMs >= since);
  const open = refuted(report, trials).filter(isHere);
  const rounds = failed.length + open.length;
  return rounds === 0 || rounds >= loopMax;
}

/**
 * Open trials of the thread that has not gone idle since; not those of another thread. A wait that was counted excuses it
 * for `endlessMs`: had it been at its idle point, the trial would have been closed by then.
 */
function openOn(report: FaultReport, trials: readonly PastTrial[]): PastTrial[] {
  const open = trials.filter((past) => past.verdict === null && past.tid === report.tid && past.key !== mendKey);
  return report.blockedSince !== null && report.blockedSince > 0 && !isEndless(report, open) ? [] : open;
}

const isEndless = (report: FaultReport, open: readonly PastTrial[]): boolean =>
  open.some((past) => past.atMs < report.atMs - endlessMs);

/** A mend changes nothing of the work: what fails after it is no consequence of it, so only their number tells a loop. */
const openMends = (report: FaultReport, trials: readonly PastTrial[]): number =>
  trials.filter((past) => past.key === mendKey && past.verdict === null && past.tid === report.tid).length;

/** Sessions that were there before the first fault of a site and now fault there too: the damage is not theirs. Pure. */
export function blamesState(report: FaultReport, trials: readonly PastTrial[]): boolean {
  const since = report.atMs - stateWindowMs;
  const veterans = trials.filter((past) => past.site.fault === report.site.fault && past.veteran && past.atMs >= since);
  return new Set(veterans.map((past) => past.session?.peer)).size >= veteransMin;
}

/**
 * Bad state is met by everybody: to give up one function costs less than a request, where its caller cannot take the value
 * for anything but a failure. A zero or a null pointer says "no" or "nothing", too, which is an answer and mostly a wrong
 * one; so what has held here so far goes before it. Among the rest a status goes before a null pointer.
 */
function inwardFirst(report: FaultReport, edits: readonly Edit[], trials: readonly PastTrial[]): Edit[] {
  const held = heldKeys(report, trials);
  const rank = (edit: Edit): number => {
    if (edit.kind === "leave") return 0;
    if (edit.kind !== "abandon") return 4;
    const isInward = edit.rung === "inward" && isTested(report, edit);
    const { failureValue, failsPlainly } = report.frames[edit.point.frame]!;
    const isStatus = failureValue === -1n && edit.point.returnValue === -1n;
    if (isInward && isStatus && failsPlainly === true && isInside(report, edit)) return 0;
    if (edit.rung === "abandon" && held.has(keyOf(report, edit))) return 1;
    if (isInward) return isStatus ? 2 : 3;
    return 4;
  };
  return [0, 1, 2, 3, 4].flatMap((wanted) => edits.filter((edit) => rank(edit) === wanted));
}

/** Inside of the request's own boundary: further out more is lost, not less. */
const isInside = ({ frames, spine, signal }: FaultReport, edit: Extract<Edit, { kind: "abandon" }>): boolean => {
  const boundary = interfaceFrame(frames, spine, faultingFrame(frames, spine, signal));
  return boundary < 0 || edit.point.frame < boundary;
};

/** What was done at this site and has not failed, as far as that is known: each time only the one request was lost. */
function heldKeys(report: FaultReport, trials: readonly PastTrial[]): Set<string> {
  const failed = failedKeys(report, trials);
  const here = trials.filter((past) => past.site.fault === report.site.fault && isOurs(past) && !failed.has(past.key));
  return new Set(here.map((past) => past.key));
}

/**
 * A session is cut where its request was given up, or goes on with a value that may be taken for an answer, and the blame
 * is sure: it would be out of step from now on, or be told something wrong.
 */
function isCut(report: FaultReport, edit: Edit, blamed: Session | null, policy: Policy): boolean {
  const sure = blamed !== null && blamed.confidence >= blameConfidence;
  if (!sure || !policy.rungs.has("quarantine")) return false;
  if (edit.kind !== "abandon") return edit.kind === "park" || edit.kind === "leave";
  return edit.rung !== "inward" || report.frames[edit.point.frame]!.failsPlainly !== true;
}

const isOurs = ({ learnedBy }: PastTrial): boolean => learnedBy === undefined;

/** What other boxes say proves nothing wrong that failed here. */
function failedKeys(report: FaultReport, trials: readonly PastTrial[]): Set<string> {
  const here = (past: PastTrial): boolean => past.site.fault === report.site.fault && isOurs(past);
  const failed = trials.filter((past) => here(past) && past.verdict === "failed");
  const proven = trials.filter((past) => here(past) && (past.verdict === "clean" || past.verdict === "degraded"));
  const keys = new Set(
    failed
      .filter((past) => !proven.some((good) => good.key === past.key && good.atMs >= past.atMs))
      .map((past) => past.key),
  );
  for (const past of refuted(report, trials)) if (here(past)) keys.add(past.key);
  return keys;
}

/** How many different sites have open trials that this fault refutes: the length of the chain of consequences. */
function openSites(report: FaultReport, trials: readonly PastTrial[]): number {
  const sites = new Set(refuted(report, trials).map((past) => past.site.fault));
  sites.delete(report.site.fault);
  return sites.size;
}

function nextTrial(report: FaultReport, trials: readonly PastTrial[]): TrialId {
  const earlier = trials.filter((past) => past.trial.startsWith(`${report.id}.`)).length;
  return `${report.id}.${earlier + 1}` as TrialId;
}

function reasonFor(key: string, failed: ReadonlySet<string>, trials: readonly PastTrial[]): string {
  const worked = trials.filter((past) => past.key === key && past.verdict !== null && past.verdict !== "failed");
  const proven = worked.findLast(isOurs) ?? worked.at(-1);
  if (proven !== undefined) {
    return isOurs(proven) ? `worked before, in ${proven.trial}` : `worked on ${proven.learnedBy}, as the fleet tells`;
  }
  return failed.size === 0 ? "first choice for a new site" : `${failed.size} earlier choices failed at this site`;
}

function deliver(
  report: FaultReport,
  trial: TrialId,
  reason: DeliverReason,
  because: string,
  past: readonly PastTrial[],
): Decision {
  const edit: Edit = { kind: "deliver", reason };
  return { trial, edit, key: keyOf(report, edit), session: null, cut: false, reason: because, past };
}
