// SPDX-License-Identifier: Apache-2.0
/**
 * One guarded program and all that belongs to it: what the fault path takes its parts from.
 */
import type { Clock } from "#clock.ts";
import type { FaultReport, ThreadControl } from "#fault.ts";
import type { Stop } from "#monitor/watch.ts";
import type { Storage } from "#storage/storage.ts";
import type { Policy } from "#suppression/plan.ts";
import type { LockKeeper } from "./lockKeeper.ts";
import type { Notices } from "./notices.ts";
import type { Probation } from "./probation.ts";
import type { Trials } from "./trials.ts";

export type { Stop };

export type Workload = {
  readonly name: string;
  readonly clock: Clock;
  readonly policy: Policy;
  readonly watch: {
    /** Reads the stopped thread once and says where it faulted. @throws GdbError */
    report(stop: Stop): Promise<{ report: FaultReport; control: ThreadControl }>;
  };
  readonly storage: Pick<Storage, "intent" | "report" | "outcome" | "event" | "holdUpkeep" | "rehearse">;
  readonly trials: Trials;
  readonly probation: Probation;
  readonly locks: Pick<LockKeeper, "acted">;
  readonly notices: Notices;
  /** Notes that its lane is at work on a stop, until that is disposed. */
  readonly working?: () => Disposable;
};
