// SPDX-License-Identifier: Apache-2.0
/**
 * The record of faults with a note beside each act of several steps for as long as it takes, and with the eye on who comes
 * again and again. Gets the storage, the notes and the withheld closes; gives the storage as the fault path sees it.
 */
import type { Storage } from "#storage/storage.ts";
import type { UnfinishedActs } from "./unfinishedActs.ts";
import type { WithheldCloses } from "./withheldCloses.ts";
import type { Workload } from "./workload.ts";

export const notedRecord = (
  storage: Storage,
  acts: UnfinishedActs,
  closes: Pick<WithheldCloses, "before">,
): Workload["storage"] => ({
  intent: (report, decision) => {
    storage.intent(report, decision);
    acts.begin(report, decision);
    closes.before(report, decision);
  },
  report: (report, plan, decision) => {
    acts.end(report.tid);
    storage.report(report, plan, decision);
  },
  outcome: (outcome) => storage.outcome(outcome),
  event: (event, workload, facts) => storage.event(event, workload, facts),
  holdUpkeep: () => storage.holdUpkeep(),
  rehearse: (report, decision) => storage.rehearse(report, decision),
});
