// SPDX-License-Identifier: Apache-2.0
/**
 * The fault path, whole. A thread of a guarded program took a fatal signal and is stopped; when this returns it runs on.
 *
 *     stop ─▶ report ─▶ plan ─▶ decide ─▶ (intent) ─▶ apply ─▶ (report) ─▶ probation ─▶ (outcome)
 *
 * Between reading the thread and resuming it nothing is awaited but that thread's own packets, and nothing touches a disk.
 * The verdict comes later and does not hold the lane: a new fault of the same thread is evidence for it.
 */
import { apply } from "#suppression/apply.ts";
import { plan } from "#suppression/plan.ts";
import { decide, refuted } from "./decide.ts";
import type { Stop, Workload } from "./workload.ts";

export async function faultPath(workload: Workload, stop: Stop): Promise<void> {
  const { watch, trials, policy, storage, probation, locks, notices, clock } = workload;

  const { report, control } = await watch.report(stop);
  const past = trials.relevantTo(report);
  const proposal = plan(report, past, policy);
  const decision = decide(report, proposal, past, policy, trials.spentOn(report));

  storage.intent(report, decision);
  const applied = await apply(report, decision, control);
  const stopUs = Math.round((clock.monotonicNs() - stop.atNs) / 1000);

  storage.report(report, proposal, decision);
  notices.fault(report, decision, stopUs);
  for (const trial of refuted(report, past)) probation.refute(trial, report);
  if (decision.edit.kind === "deliver") return probation.gaveUp(report, decision, stopUs);
  probation.begin(report, decision, applied, stopUs);
  locks.acted(report, applied.rung);
}
