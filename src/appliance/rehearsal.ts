// SPDX-License-Identifier: Apache-2.0
/**
 * The fault path without its effects: a report of a thread that only waits is planned, decided and turned into registers,
 * so that the first real fault finds everything compiled. Nothing is written and no thread is touched.
 */
import type { FaultReport } from "#fault.ts";
import { registerChanges } from "#suppression/apply.ts";
import { plan } from "#suppression/plan.ts";
import { decide } from "./decide.ts";
import { Trials } from "./trials.ts";
import type { Workload } from "./workload.ts";

/** Gives what runs one round. Each leaves a trial in a memory of its own, because a decision with a past runs other code. */
export function rehearsalFor({ trials, policy, storage }: Workload): (report: FaultReport) => void {
  const own = new Trials([]);
  return (report) => {
    // A thread that waits has no work above its spine; without one every frame is a candidate.
    const open = { ...report, spine: null };
    const past = [...trials.relevantTo(open), ...own.relevantTo(open)];
    const decision = decide(open, plan(open, past, policy), past, policy);
    const { edit } = decision;
    storage.rehearse(open, decision);
    if (edit.kind === "abandon" || edit.kind === "neutralise" || edit.kind === "leave") registerChanges(open, edit);
    own.open(open, decision, "abandon");
    own.close(decision.trial, "clean");
  };
}
