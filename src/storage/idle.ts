// SPDX-License-Identifier: Apache-2.0
/**
 * When upkeep is due: in the first idle moment after commits, and at the latest every minute. Gets told of commits, of
 * stopped threads and of open restore windows; runs slices of upkeep between them.
 *
 * Idle means: nothing was committed for 200 ms, no thread is stopped, no restore window is open. A slice that has begun is
 * not broken off: it is short, and nobody who holds upkeep back waits for it.
 */
import type { Clock } from "#clock.ts";

const idleMs = 200;
const upkeepMs = 60_000;

export class Idle {
  #lastCommitNs = 0;
  /** The first upkeep comes without a commit: an earlier life may have left something to do. */
  #commits = 1;
  #holds = 0;
  readonly #windows = new Set<string>();
  #onCommit: () => void = () => {};

  constructor(private readonly clock: Clock) {}

  committed(): void {
    this.#lastCommitNs = this.clock.monotonicNs();
    this.#commits += 1;
    this.#onCommit();
  }

  /** No upkeep begins until what this gives is disposed. Takes no time: the caller has a stopped thread. */
  hold(): Disposable {
    this.#holds += 1;
    return this.#release;
  }

  /** Notes that a restore window has opened or closed. */
  window(name: string, isOpen: boolean): void {
    if (isOpen) this.#windows.add(name);
    else this.#windows.delete(name);
  }

  get now(): boolean {
    const quietNs = this.clock.monotonicNs() - this.#lastCommitNs;
    return this.#holds === 0 && this.#windows.size === 0 && quietNs >= idleMs * 1e6;
  }

  /** Calls `slice` in idle moments, again while it says that there is more. Ends by throwing the signal's reason. */
  async run(slice: () => Promise<boolean>, signal: AbortSignal): Promise<never> {
    for (;;) {
      await this.#commitWithin(upkeepMs, signal);
      do await this.clock.sleep(idleMs, signal);
      while (!this.now);
      this.#commits = 0;
      while (this.now && (await slice())) signal.throwIfAborted();
    }
  }

  /** Resolves once something was committed since the last upkeep, or after `delayMs`. */
  async #commitWithin(delayMs: number, signal: AbortSignal): Promise<void> {
    if (this.#commits > 0) return;
    const done = new AbortController();
    const commit = new Promise<void>((resolve) => {
      this.#onCommit = resolve;
    });
    const sleep = this.clock.sleep(delayMs, AbortSignal.any([signal, done.signal])).catch((error: unknown) => {
      if (signal.aborted) throw error;
    });
    await Promise.race([commit, sleep]);
    done.abort();
  }

  /** One for all holds, so that none is made while a thread is stopped. */
  readonly #release: Disposable = {
    [Symbol.dispose]: () => {
      this.#holds -= 1;
    },
  };
}
