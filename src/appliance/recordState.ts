// SPDX-License-Identifier: Apache-2.0
/**
 * Tells whoever watches a guard when its faults can no longer be recorded, and when they can be again. Gets the storage;
 * gives notices until the signal aborts. Guarding itself does not depend on it.
 */
import { type Clock, sleepToBeat } from "#clock.ts";
import type { StorageState } from "#storage/stateFile.ts";
import type { Notices } from "./notices.ts";

const lookMs = 500;

export async function tellRecordState(
  workload: string,
  storage: { state(): StorageState },
  notices: Notices,
  clock: Clock,
  signal: AbortSignal,
): Promise<void> {
  let told = gistOf({ kind: "normal", why: "" });
  for (;;) {
    const { kind, why } = storage.state();
    const gist = gistOf({ kind, why });
    if (gist !== told) notices.tell({ event: "record", workload, state: kind, why });
    told = gist;
    await sleepToBeat(clock, lookMs, signal);
  }
}

/** Reasons name figures that change all the time; that there is a reason does not. */
const gistOf = ({ kind, why }: Pick<StorageState, "kind" | "why">): string => `${kind} ${why !== ""}`;
