// SPDX-License-Identifier: Apache-2.0
/**
 * How long a request of Cloud Hypervisor's own fill waits for its answer while a restored guest has the processors.
 *
 * Until it is answered, the guest's next fault cannot be asked for; so the rest ends as soon as a fault is pending, which the
 * kernel tells by the userfaultfd itself: we hold a duplicate. Where that may not be had, the guest waits for the rest, so it
 * is short, and none follows a touch. Limit: the duplicate keeps the guest's memory registered, so it must be let go of before
 * the fill ends. Blocks. Source: userfaultfd(2); v53.0 closes its own and unregisters nothing.
 */
import { type HeldDescriptor, holdPageFaults } from "#board/native/foreignDescriptors.ts";
import { readableOf, type UnixStream } from "#board/native/unixStream.ts";
import { systemClock } from "#clock.ts";

/** Where a pending fault cannot be seen. */
const blindMs = 1;
const touchingMs = 5;

export class FillRest implements Disposable {
  /** Undefined: not looked for yet; null: not to be had, or let go of. */
  #faults: HeldDescriptor | null | undefined;
  #touchedAtNs = Number.NEGATIVE_INFINITY;

  constructor(
    private readonly pid: number,
    /** Whoever speaks there ends a rest too. */
    private readonly others: () => readonly UnixStream[],
    /** Something useful that takes no time to speak of; false where nothing is left to do. */
    private readonly work: () => boolean,
  ) {}

  /** The guest has touched a page. */
  touched(): void {
    this.#touchedAtNs = systemClock.monotonicNs();
  }

  /** Rests for so long at most. Gives since when, monotonic ns, a fault may have been waiting. */
  rest(mostMs: number): number {
    const fromNs = systemClock.monotonicNs();
    if (this.#faults === undefined) this.#faults = holdPageFaults(this.pid);
    const isBlind = this.#faults === null;
    if (isBlind && fromNs - this.#touchedAtNs <= touchingMs * 1e6) return fromNs;
    const heard = isBlind ? this.others() : [this.#faults!, ...this.others()];
    do if (readableOf(heard, 0).includes(true)) return fromNs;
    while (this.work());
    readableOf(heard, isBlind ? blindMs : mostMs);
    return isBlind ? fromNs : systemClock.monotonicNs();
  }

  [Symbol.dispose](): void {
    this.#faults?.[Symbol.dispose]();
    this.#faults = null;
  }
}
