// SPDX-License-Identifier: Apache-2.0
/**
 * Threads that a program has lost shortly before a fault. Gets its thread ids, look by look; gives how many are gone.
 *
 * Some programs end threads of their own on the way to abort (redis, before its memory test): what goes on after the
 * abandoned abort lacks them. A program whose threads come and go all the time loses none by that.
 */
import type { Clock } from "#clock.ts";

/** So long nothing came or went: after that, threads that end do so for a reason. */
const calmMs = 500;
/** A loss that began longer ago has nothing to do with a fault now. */
const recentMs = 5_000;

export class ThreadCensus {
  #known: ReadonlySet<number> | null = null;
  #changedMs = 0;
  #loss = { sinceMs: Number.NEGATIVE_INFINITY, gone: 0 };

  constructor(
    private readonly read: () => readonly number[],
    private readonly clock: Pick<Clock, "monotonicNs">,
  ) {}

  /** The threads as they are now. */
  list(): readonly number[] {
    const tids = this.read();
    const nowMs = this.clock.monotonicNs() / 1e6;
    const now = new Set(tids);
    const before = this.#known ?? now;
    const gone = [...before].filter((tid) => !now.has(tid)).length;
    if (gone > 0 && nowMs - this.#changedMs >= calmMs) this.#loss = { sinceMs: nowMs, gone };
    else if (gone > 0) this.#loss = { ...this.#loss, gone: this.#loss.gone + gone };
    if (this.#known === null || gone > 0 || now.size !== before.size) this.#changedMs = nowMs;
    this.#known = now;
    return tids;
  }

  /** Threads that have ended since shortly before now. */
  lost(): number {
    this.list();
    return this.clock.monotonicNs() / 1e6 - this.#loss.sinceMs <= recentMs ? this.#loss.gone : 0;
  }
}
