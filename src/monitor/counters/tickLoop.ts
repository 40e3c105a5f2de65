// SPDX-License-Identifier: Apache-2.0
/**
 * Ticks at a fixed rate for about a second, then returns. Gets a rate and what to do; blocks its thread: for a Worker only.
 *
 * Ticks are due at multiples of the period from the start, so they do not drift. A tick that comes more than a period late is
 * counted and the missed ones are left out. Where periods are short the thread is put to sleep by the cheaper call.
 */
import { pause } from "#board/native/pause.ts";
import type { Clock } from "#clock.ts";

/** Longer pauses wait on the word of calls, so that a call ends them. */
const plainPauseNsMax = 50e6;
const roundNs = 1e9;

export class TickLoop {
  readonly #periodNs: number;
  #dueNs: number;
  late = 0;
  ticks = 0;

  constructor(
    rateHz: number,
    private readonly calls: Int32Array,
    private readonly clock: Clock,
    private readonly tick: (nowNs: number) => void,
    private readonly sleepUs: (pauseUs: number) => void = pause,
  ) {
    this.#periodNs = 1e9 / rateHz;
    this.#dueNs = clock.monotonicNs();
  }

  /**
   * Ticks until a second is over or it was called more often than `seen`. A tick costs one pause and one look at the clock.
   * All in one function: after each pause the code of every other one would have to come from memory again.
   */
  round(seen: number): void {
    const { clock, calls } = this;
    const periodNs = this.#periodNs;
    const isShort = periodNs <= plainPauseNsMax;
    let nowNs = clock.monotonicNs();
    const endNs = nowNs + roundNs;
    while (nowNs < endNs && calls[0] === seen) {
      const waitNs = this.#dueNs - nowNs;
      if (waitNs > 0) {
        if (isShort) this.sleepUs(Math.ceil(waitNs / 1000));
        else Atomics.wait(calls, 0, seen, waitNs / 1e6);
        nowNs = clock.monotonicNs();
        // Woken early: by a call, or by a signal.
        if (nowNs < this.#dueNs) continue;
      }
      this.tick(nowNs);
      this.ticks += 1;
      this.#dueNs += periodNs;
      if (this.#dueNs >= nowNs) continue;
      this.late += 1;
      this.#dueNs = nowNs + periodNs;
    }
  }
}
