// SPDX-License-Identifier: Apache-2.0
/**
 * Chooses the one edit that is done now. Gets the report, the plan, the trials remembered and the policy; gives a Decision.
 *
 * Pure. An edit that failed at this site is not tried again; a trial still on probation has failed when its own site
 * faults again on its thread and nothing shows that the thread came back to its idle point in between.
 */
import type { Decision, DeliverReason, Edit, FaultReport, PastTrial, Plan, TrialId } from "#fault.ts";
import { keyOf, type Policy } from "#suppression/plan.ts";

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
  const neutralised = trials.filter((past) => past.rung === "neutralise").length;
  for (const edit of plan.edits) {
    const key = keyOf(report, edit);
    if (failed.has(key)) continue;
    if (edit.kind === "neutralise" && neutralised >= policy.neutralisedMax) continue;
    return { trial, edit, key, reason: reasonFor(key, failed, trials), past: trials };
  }
  return deliver(report, trial, "exhausted", `all ${plan.edits.length} edits for this site have failed`, trials);
}

/** Trials on probation that this fault proves wrong: same thread, and the thread never went idle since. Pure. */
export function refuted(report: FaultReport, trials: readonly PastTrial[]): PastTrial[] {
  if (report.blockedSince !== null && report.blockedSince > 0) return [];
  return trials.filter((past) => past.verdict === null && past.tid === report.tid);
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
  return { trial, edit, key: keyOf(report, edit), reason: because, past };
}
