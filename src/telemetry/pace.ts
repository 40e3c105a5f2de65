// SPDX-License-Identifier: Apache-2.0
/** Spreads work over time: a bucket that fills at a rate, holds one second's worth, and says how long until the next token. */
import type { Clock } from "#clock.ts";

export class Pace {
  #tokens: number;
  #atNs: number;

  /** `perSecond` 0 lifts the limit. */
  constructor(
    private readonly perSecond: number,
    private readonly clock: Clock,
  ) {
    this.#tokens = Math.max(1, perSecond);
    this.#atNs = clock.monotonicNs();
  }

  /** Takes a token if there is one. */
  take(): boolean {
    if (this.perSecond === 0) return true;
    this.#fill();
    if (this.#tokens < 1) return false;
    this.#tokens -= 1;
    return true;
  }

  /** Time until `take` will succeed. */
  waitMs(): number {
    if (this.perSecond === 0) return 0;
    this.#fill();
    return Math.max(0, Math.ceil(((1 - this.#tokens) / this.perSecond) * 1000));
  }

  #fill(): void {
    const nowNs = this.clock.monotonicNs();
    this.#tokens = Math.min(Math.max(1, this.perSecond), this.#tokens + ((nowNs - this.#atNs) / 1e9) * this.perSecond);
    this.#atNs = nowNs;
  }
}
