// SPDX-License-Identifier: Apache-2.0
/**
 * A supervisor comes to rest after its programs were taken under guard. Gets their rehearsals; gives them as many rounds
 * as they need, and once none was for a while gives back the memory that only the start has needed.
 *
 *     first program: many rounds, until our own code is compiled ─▶ others: a few, for how they wait
 *     quiet for `quietMs` ─▶ collect, give back ─▶ a few rounds more bring back what the fault path needs
 *                                  ├─▶ after `collectEveryMs` once more: what ticks has been compiled by then
 *                                  └─▶ every `collectEveryMs` from then on: collect, beside all else
 *
 * Left to itself the engine lets garbage grow by 32 MiB, and what lives on is strewn over all of it for good: so it collects
 * all the time while programs are taken under guard.
 */
import { giveBackOwnPages } from "#board/native/ownPages.ts";
import type { Clock } from "#clock.ts";
import type { TaskGroup } from "#tasks.ts";

/** Enough for the run-time compiler to have compiled what the fault path runs (measured: 10 ms a fault before, 1 ms after). */
const fullRounds = 200;
/** Our own code is compiled by then: only how this process waits is new. */
const knownRounds = 8;
/** What a rehearsal leaves behind is collected before it can spread over the heap: 25 rounds leave some 10 MiB. */
const roundsPerCollection = 25;
const quietMs = 10_000;
const collectEveryMs = 60_000;
/** While programs are taken under guard, at most so often; each is made beside all else. */
const warmCollectMs = 50;
const warmCollectionsMax = 200;

/** Runs so many rounds of a rehearsal; none where its program is gone. */
export type Rehearse = (rounds: number) => Promise<void>;

export class Settling {
  #compiled = false;
  #waiting = false;
  #rested = false;
  #lastNs = 0;
  #last: Rehearse = async () => {};

  constructor(
    private readonly clock: Clock,
    private readonly tasks: TaskGroup,
    private readonly givePages: () => void = giveBackOwnPages,
    private readonly collect: (wait: boolean) => void = (wait) => Bun.gc(wait),
  ) {}

  /** Programs are about to be taken under guard. */
  begin(): void {
    this.tasks.start(async (signal) => {
      for (let done = 0; done < warmCollectionsMax && !this.#rested; done += 1) {
        await this.clock.sleep(warmCollectMs, signal);
        this.collect(false);
      }
    });
  }

  /** Rehearses for one process. `isChild`: a process that shares its code with one that was rehearsed for. */
  async rehearse(rehearse: Rehearse, isChild: boolean): Promise<void> {
    const full = !isChild && !this.#compiled;
    this.#compiled ||= full;
    for (let done = 0; full && done < fullRounds; done += roundsPerCollection) {
      await rehearse(roundsPerCollection);
      this.collect(false);
    }
    if (!full) await rehearse(knownRounds);
    this.#last = rehearse;
    this.#lastNs = this.clock.monotonicNs();
    if (this.#waiting) return;
    this.#waiting = true;
    this.tasks.start((signal) => this.#settle(signal));
  }

  async #settle(signal: AbortSignal): Promise<void> {
    for (let quietNs = 0; quietNs < quietMs * 1e6; quietNs = this.clock.monotonicNs() - this.#lastNs) {
      await this.clock.sleep(quietMs - quietNs / 1e6, signal);
    }
    this.#waiting = false;
    await this.#giveBack();
    if (this.#rested) return;
    this.#rested = true;
    await this.clock.sleep(collectEveryMs, signal);
    await this.#giveBack();
    while (!signal.aborted) {
      await this.clock.sleep(collectEveryMs, signal);
      this.collect(false);
    }
  }

  /** Not `Bun.shrink`: it throws compiled code away (the first call of a compiled function after it: 300 us for 4). */
  async #giveBack(): Promise<void> {
    this.collect(true);
    this.givePages();
    await this.#last(knownRounds);
  }
}
