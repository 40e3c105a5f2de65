// SPDX-License-Identifier: Apache-2.0
/**
 * Whether the lanes of a supervisor get on: each notes when it begins to work on a stop and when it has done so. One that is
 * at the same stop for longer than any stop takes is stuck, and no watchdog may be told that all is well.
 */
import type { Clock } from "#clock.ts";
import type { ServiceCheck } from "./serviceChain.ts";

/** Far above what the slowest stub may take for all packets of one stop. */
export const laneMsMax = 20_000;

export class LaneWatch {
  readonly #works = new Set<{ readonly lane: string; readonly sinceNs: number }>();

  constructor(private readonly clock: Clock) {}

  /** From now until it is disposed the lane works on one stop. */
  begin(lane: string): Disposable {
    const work = { lane, sinceNs: this.clock.monotonicNs() };
    this.#works.add(work);
    return { [Symbol.dispose]: () => void this.#works.delete(work) };
  }

  readonly check: ServiceCheck = {
    name: "lanes",
    check: () => {
      const nowNs = this.clock.monotonicNs();
      for (const { lane, sinceNs } of this.#works) {
        const ms = Math.round((nowNs - sinceNs) / 1e6);
        if (ms >= laneMsMax) return `${lane} has been at one stop for ${ms} ms`;
      }
      return null;
    },
  };
}
