// SPDX-License-Identifier: Apache-2.0
/**
 * How late the main loop runs: a timer that is due every `everyMs`, and by how much it comes late. Gets a clock; gives the
 * longest delay of the last ten seconds.
 */
import { type Clock, untilBeatMs } from "#clock.ts";

const everyMs = 500;
/** Of how many turns the longest delay is told: ten seconds. */
const turnsKept = 20;

export class LoopLag {
  readonly #delaysMs: number[] = [];

  constructor(private readonly clock: Clock) {}

  get longestMs(): number {
    return Math.max(0, ...this.#delaysMs);
  }

  async run(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      const beganNs = this.clock.monotonicNs();
      const dueMs = untilBeatMs(this.clock, everyMs);
      await this.clock.sleep(dueMs, signal).catch(() => {});
      this.#delaysMs.push(Math.max(0, (this.clock.monotonicNs() - beganNs) / 1e6 - dueMs));
      if (this.#delaysMs.length > turnsKept) this.#delaysMs.shift();
    }
  }
}
