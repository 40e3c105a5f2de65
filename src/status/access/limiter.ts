// SPDX-License-Identifier: Apache-2.0
/**
 * Rates: a bucket of tokens for each asker, and a count of wrong passwords in a window. Memory is bounded: the asker that
 * was quiet for longest is forgotten first.
 */
import type { Clock } from "#clock.ts";
import { limits } from "../settings.ts";

export class Limiter {
  readonly #buckets = new Map<string, { left: number; atNs: number }>();

  constructor(
    private readonly clock: Clock,
    private readonly perSecond: number,
    private readonly burst: number,
  ) {}

  /** True where this asker may ask once more now. */
  allow(asker: string): boolean {
    const nowNs = this.clock.monotonicNs();
    const known = this.#buckets.get(asker);
    const left =
      known === undefined
        ? this.burst
        : Math.min(this.burst, known.left + ((nowNs - known.atNs) / 1e9) * this.perSecond);
    // Set anew, so that the map stays in the order of the last question.
    this.#buckets.delete(asker);
    if (this.#buckets.size >= limits.addressesMax) this.#buckets.delete(this.#buckets.keys().next().value!);
    this.#buckets.set(asker, { left: left < 1 ? left : left - 1, atNs: nowNs });
    return left >= 1;
  }
}

/** Wrong passwords and codes: five an address and thirty in all within a quarter of an hour. Right ones do not count. */
export class Tries {
  #wrong: { readonly from: string; readonly atNs: number }[] = [];

  constructor(private readonly clock: Clock) {}

  /** Seconds until this address may try again; 0 where it may now. */
  waitSeconds(from: string): number {
    const sinceNs = this.clock.monotonicNs() - limits.loginWindowMs * 1e6;
    this.#wrong = this.#wrong.filter((each) => each.atNs > sinceNs);
    const own = this.#wrong.filter((each) => each.from === from);
    const first =
      own.length >= limits.loginTriesPerAddress
        ? own[own.length - limits.loginTriesPerAddress]
        : this.#wrong.length >= limits.loginTriesInAll
          ? this.#wrong[0]
          : undefined;
    return first === undefined ? 0 : Math.ceil((first.atNs - sinceNs) / 1e9);
  }

  wrong(from: string): void {
    this.#wrong.push({ from, atNs: this.clock.monotonicNs() });
  }

  /** The last try was right after all. */
  right(from: string): void {
    const last = this.#wrong.findLastIndex((each) => each.from === from);
    if (last >= 0) this.#wrong.splice(last, 1);
  }

  /** How long the next answer is held back: it grows with each wrong one. */
  delayMs(from: string): number {
    const own = this.#wrong.filter((each) => each.from === from).length;
    return own === 0 ? 0 : Math.min(2_000, 100 * 2 ** own);
  }
}
