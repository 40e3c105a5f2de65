// SPDX-License-Identifier: Apache-2.0
/**
 * What the journal says of the workloads: which are up, and which are protected. Gets durable rows in their order; gives
 * states. It pulls, so it costs the fault path nothing, and it knows what a fleet will read there. Limit: 256 workloads.
 */
import type { FeedRow } from "#telemetry/feed.ts";

const workloadsMax = 256;

export type WorkloadState = {
  readonly name: string;
  readonly kind: "program" | "guest";
  readonly up: boolean;
  readonly protected: boolean;
};

/** What an event says of its workload; an event that is not here says nothing of it. */
const meanings: Readonly<Record<string, Partial<WorkloadState>>> = {
  "guard.started": { kind: "program", up: true },
  "guard.protected": { kind: "program", up: true, protected: true },
  "guard.stubLost": { protected: false },
  "guard.retired": { protected: false },
  "guard.letGo": { protected: false },
  "guard.waiting": { kind: "program", protected: false },
  "guard.ended": { up: false, protected: false },
  "program.released": { protected: false },
  "program.ended": { up: false, protected: false },
  "guest.up": { kind: "guest", up: true, protected: true },
  "guest.takenOver": { kind: "guest", up: true, protected: true },
  "guest.paused": { kind: "guest", up: false },
  "guest.starting": { kind: "guest", up: false, protected: true },
  "guest.down": { kind: "guest", up: false, protected: false },
  "guest.held": { kind: "guest", up: false, protected: false },
};

export class WorkloadStates {
  readonly #states = new Map<string, WorkloadState>();

  get all(): readonly WorkloadState[] {
    return [...this.#states.values()];
  }

  /** True where a workload's state changed. */
  take(row: FeedRow): boolean {
    if (row.kind !== "event") return false;
    const name = row.workload;
    const meaning = meanings[row.event];
    if (meaning === undefined || (!this.#states.has(name) && this.#states.size >= workloadsMax)) return false;
    const before = this.#states.get(name) ?? { name, kind: "program", up: false, protected: false };
    const after = { ...before, ...meaning };
    this.#states.set(name, after);
    return before.up !== after.up || before.protected !== after.protected || before.kind !== after.kind;
  }
}
