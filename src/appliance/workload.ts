// SPDX-License-Identifier: Apache-2.0
/**
 * One guarded program and all that belongs to it: what the fault path takes its parts from.
 */
import type { Clock } from "#clock.ts";
import type { Decision, FaultReport, Outcome, Plan, ThreadControl } from "#fault.ts";
import type { Policy } from "#suppression/plan.ts";
import type { Notices } from "./notices.ts";
import type { Probation } from "./probation.ts";
import type { Trials } from "./trials.ts";

/** A thread has stopped with a fatal signal. */
export type Stop = {
  readonly tid: number;
  /** Linux name of the signal. */
  readonly signal: string;
  /** Arrival of the stop by our monotonic clock, ns. */
  readonly atNs: number;
};

export type Workload = {
  readonly name: string;
  readonly clock: Clock;
  readonly policy: Policy;
  readonly watch: {
    /** Reads the stopped thread once. @throws GdbError */
    report(stop: Stop): Promise<{ report: FaultReport; control: ThreadControl }>;
  };
  readonly storage: {
    intent(report: FaultReport, decision: Decision): void;
    report(report: FaultReport, proposal: Plan, decision: Decision): void;
    outcome(outcome: Outcome): void;
  };
  readonly trials: Trials;
  readonly probation: Probation;
  readonly notices: Notices;
};
