// SPDX-License-Identifier: Apache-2.0
/**
 * Chooses the one edit that is done now. Gets the report, the plan, the trials remembered and the policy; gives a Decision.
 *
 * Pure. An edit that failed at this site is not tried again; a trial still on probation has failed when its own site
 * faults again on its thread and nothing shows that the thread came back to its idle point in between.
 */
import type { Decision, DeliverReason, Edit, FaultReport, PastTrial, Plan, Session, TrialId } from "#fault.ts";
import { keyOf, type Policy } from "#suppression/plan.ts";
import { blameConfidence, findSession } from "#suppression/sessionFinder.ts";

/** So many different old sessions at one site within the window, and the state is blamed instead of them. */
const veteransMin = 2;
const stateWindowMs = 60_000;
/** Waits are counted that the debugger itself causes (a passed signal), so faults may come in a loop for so long. */
const endlessMs = 1000;
const mendKey = "mend";
const mendsMax = 64;

export function decide(report: FaultReport, plan: Plan, trials: readonly PastTrial[], policy: Policy): Decision {
  const trial = nextTrial(report, trials);
  if (plan.kind === "deliver") return deliver(report, trial, plan.reason, "the signal belongs to the program", trials);
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
  const failed = failedKeys(report, trials);
  const neutralised = trials.filter((past) => past.rung === "neutralise" && past.key !== mendKey).length;
  const blamed = findSession(report.sessions);
  const state = blamesState(report, trials);
  for (const edit of state ? inwardFirst(plan.edits) : plan.edits) {
    const key = keyOf(report, edit);
    if (failed.has(key)) continue;
    if (edit.kind === "neutralise" && neutralised >= policy.neutralisedMax) continue;
    if (edit.kind === "mend" && openMends(report, trials) >= mendsMax) continue;
    const cut = !state && isCut(edit, blamed, policy);
    const reason = state ? "different sessions fault here: the state is blamed" : reasonFor(key, failed, trials);
    return { trial, edit, key, session: blamed, cut, reason, past: trials };
  }
  return deliver(report, trial, "exhausted", `all ${plan.edits.length} edits for this site have failed`, trials);
}

/**
 * Trials on probation that this fault proves wrong: same thread, and the thread never went idle since. A wait that was
 * counted excuses it for `endlessMs`: had it been at its idle point, the trial would have been closed by then. Pure.
 */
export function refuted(report: FaultReport, trials: readonly PastTrial[]): PastTrial[] {
  const open = trials.filter((past) => past.verdict === null && past.tid === report.tid && past.key !== mendKey);
  const isEndless = open.some((past) => past.atMs < report.atMs - endlessMs);
  return report.blockedSince !== null && report.blockedSince > 0 && !isEndless ? [] : open;
}

/** A mend changes nothing of the work: what fails after it is no consequence of it, so only their number tells a loop. */
const openMends = (report: FaultReport, trials: readonly PastTrial[]): number =>
  trials.filter((past) => past.key === mendKey && past.verdict === null && past.tid === report.tid).length;

/** Sessions that were there before the first fault of a site and now fault there too: the damage is not theirs. Pure. */
export function blamesState(report: FaultReport, trials: readonly PastTrial[]): boolean {
  const since = report.atMs - stateWindowMs;
  const veterans = trials.filter((past) => past.site.fault === report.site.fault && past.veteran && past.atMs >= since);
  return new Set(veterans.map((past) => past.session?.peer)).size >= veteransMin;
}

const inwardFirst = (edits: readonly Edit[]): Edit[] => {
  const isInward = (edit: Edit): boolean => edit.kind === "abandon" && edit.rung === "inward";
  return [...edits.filter(isInward), ...edits.filter((edit) => !isInward(edit))];
};

/** A session is cut where its request was abandoned and the blame is sure: it would be out of step from now on. */
function isCut(edit: Edit, blamed: Session | null, policy: Policy): boolean {
  const sure = blamed !== null && blamed.confidence >= blameConfidence;
  return (
    sure &&
    policy.rungs.has("quarantine") &&
    (edit.kind === "park" || (edit.kind === "abandon" && edit.rung === "abandon"))
  );
}

function failedKeys(report: FaultReport, trials: readonly PastTrial[]): Set<string> {
  const here = (past: PastTrial): boolean => past.site.fault === report.site.fault;
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
  const proven = trials.findLast((past) => past.key === key && past.verdict !== null && past.verdict !== "failed");
  if (proven !== undefined) return `worked before, in ${proven.trial}`;
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
