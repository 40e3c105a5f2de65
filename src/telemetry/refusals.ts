// SPDX-License-Identifier: Apache-2.0
/**
 * Audit of what was refused: at most one event a minute, with a count, so that a flood of bad commands cannot become a flood
 * of events. Gets refusals and the time; gives the facts of an event when one is due. Pure state.
 */
import type { EventFacts } from "./feed.ts";

const intervalMs = 60_000;

export class RefusalAudit {
  #counts = new Map<string, number>();
  #first: EventFacts = {};
  #lastMs = Number.NEGATIVE_INFINITY;

  /** Counts one; the facts of the first since the last event stand for all of them. */
  note(why: string, facts: EventFacts): void {
    if (this.#counts.size === 0) this.#first = facts;
    this.#counts.set(why, (this.#counts.get(why) ?? 0) + 1);
  }

  /** The facts of the event that is due at `nowMs`, or null. */
  take(nowMs: number): EventFacts | null {
    if (this.#counts.size === 0 || nowMs - this.#lastMs < intervalMs) return null;
    const counts = [...this.#counts].sort(([, a], [, b]) => b - a);
    const count = counts.reduce((sum, [, each]) => sum + each, 0);
    const why = counts.map(([reason, each]) => `${reason} ${each}`).join(", ");
    const facts = { ...this.#first, severity: 2, count, why };
    this.#counts = new Map();
    this.#lastMs = nowMs;
    return facts;
  }
}
