// SPDX-License-Identifier: Apache-2.0
/**
 * Decides a recorded fault again, from its report and the trials that were remembered then, and says whether the decision
 * is still the same. Pure: the same record gives the same text on every machine.
 */
import type { Decision, FaultReport, Plan } from "#fault.ts";
import { defaultPolicy, type Policy, plan } from "#suppression/plan.ts";
import { decide } from "./decide.ts";
import { planLines, type RecordedFault, transcript } from "./transcript.ts";

export type Replay = { readonly plan: Plan; readonly decision: Decision; readonly same: boolean };

export function replay(report: FaultReport, recorded: Decision): Replay {
  const proposal = plan(report, recorded.past, defaultPolicy);
  const decision = decide(report, proposal, recorded.past, policyOf(recorded), recorded.spent);
  return { plan: proposal, decision, same: decision.key === recorded.key };
}

/** The transcript of a replay: the fault, all candidates with the chosen one marked, and the comparison. */
export function replayLines(recorded: RecordedFault): string[] {
  const again = replay(recorded.report, recorded.decision);
  return [
    ...transcript(recorded),
    "",
    ...planLines(recorded.report, again.plan, again.decision),
    `Past trials looked at: ${recorded.decision.past.length}`,
    "",
    again.same
      ? `Decided again: the same, ${again.decision.key}`
      : `Decided again: NOT the same. Then ${recorded.decision.key}, now ${again.decision.key} (${again.decision.reason})`,
  ];
}

/** A budget that was spent is spent again, whatever it was. */
const policyOf = ({ spent }: Decision): Policy =>
  spent === undefined ? defaultPolicy : { ...defaultPolicy, budget: { ...defaultPolicy.budget, siteActsMax: 0 } };
