// SPDX-License-Identifier: Apache-2.0
/**
 * How a supervisor's storage is, and how other processes get to know it: one small JSON file beside the ring, in memory. Gets a
 * state; gives it back to `holdfast storage status`. Written when something changed, never in the fault path.
 */
import { readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import type { Dropped } from "./rowQueue.ts";

export type StorageState = {
  readonly kind: "normal" | "tight" | "critical" | "blind";
  /** Why it is not normal, or what else is amiss; "" where nothing is. */
  readonly why: string;
  /** Rows lost since commits last worked, by kind. */
  readonly dropped: Dropped;
  readonly queuedRows: number;
  /** Slots of the ring whose rows are not durable yet; null where there is no ring. */
  readonly ringSlots: number | null;
  readonly freeBytes: number | null;
  readonly bytesToday: number;
  /** More was written today than the budget allows: history is thinned, checkpoints come half as often. */
  readonly overBudget: boolean;
};

export type PublishedState = StorageState & { readonly pid: number; readonly atMs: number; readonly directory: string };

const pathBeside = (ring: string): string => `${ring}.state`;

/** False where it cannot be written; status then shows less, nothing else. */
export function publishState(ring: string, state: PublishedState): boolean {
  try {
    writeFileSync(`${pathBeside(ring)}.part`, JSON.stringify(state), { mode: 0o600 });
    renameSync(`${pathBeside(ring)}.part`, pathBeside(ring));
    return true;
  } catch {
    // No run directory, or a full one.
    return false;
  }
}

export function withdrawState(ring: string): void {
  rmSync(pathBeside(ring), { force: true });
}

/** What the supervisor at this ring last said; null where it said nothing. It may have died since. */
export function readState(ring: string): PublishedState | null {
  try {
    const state: unknown = JSON.parse(readFileSync(pathBeside(ring), "utf8"));
    return typeof state === "object" && state !== null && "kind" in state ? (state as PublishedState) : null;
  } catch {
    // Not there, or half written by a process that died: there is nothing to show.
    return null;
  }
}
