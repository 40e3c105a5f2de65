// SPDX-License-Identifier: Apache-2.0
/**
 * How late the main loop runs: a timer that is due every `everyMs`, and by how much it comes late. Gets a clock; gives the
 * longest delay of the last ten seconds, and when the loop last turned.
 */
import type { Clock } from "#clock.ts";

const everyMs = 500;
/** Of how many turns the longest delay is told: ten seconds. */
const turnsKept = 20;

export class LoopLag {
  readonly #delaysMs: number[] = [];
  #turnedNs: number;

  constructor(private readonly clock: Clock) {
    this.#turnedNs = clock.monotonicNs();
  }

  get longestMs(): number {
    return Math.max(0, ...this.#delaysMs);
  }

  async run(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      await this.clock.sleep(everyMs, signal).catch(() => {});
      const nowNs = this.clock.monotonicNs();
      this.#delaysMs.push(Math.max(0, (nowNs - this.#turnedNs) / 1e6 - everyMs));
      if (this.#delaysMs.length > turnsKept) this.#delaysMs.shift();
      this.#turnedNs = nowNs;
    }
  }
}
