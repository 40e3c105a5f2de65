// SPDX-License-Identifier: Apache-2.0
/**
 * Demand-driven restoration inside the program: a lock that abandoned work left behind is released when, and only when,
 * another thread is seen waiting for it.
 *
 *     act on thread T ─▶ look every 50 ms ─▶ somebody waits 100 ms for a mutex of T's, T is idle ─▶ release, wake one
 *
 * Nothing is undone up front and nothing is guessed: a lock of an unknown kind stays, and the verdict says who waits.
 */
import type { Clock } from "#clock.ts";
import { explain } from "#errors.ts";
import type { ThreadControl, VirtualAddress } from "#fault.ts";
import type { LockWait } from "#monitor/lockWaits.ts";
import { judgeMutex, mutexBytes } from "#suppression/locks.ts";

const busyLookMs = 50;
const calmLookMs = 500;
/** Looks come often for so long after an act. */
const busyMs = 10_000;
const patienceNs = 100e6;
const releasesKept = 64;

/** What the keeper needs of a program; implemented by the watch. */
export interface LockScene {
  lockWaits(): readonly LockWait[];
  threadState(tid: number): "idle" | "busy" | "gone";
  readMemory(from: VirtualAddress, lengthBytes: number): Uint8Array;
  /** Stops a thread that waits, for as long as `work` takes. Its wait is then made again by the kernel. */
  whileStopped(tid: number, work: (control: ThreadControl) => Promise<void>): Promise<void>;
}

export type LockRelease = { readonly at: VirtualAddress; readonly owner: number; readonly waiter: number };

export class LockKeeper {
  /** Threads whose work was abandoned, by thread id, with the time of the last act. */
  readonly #abandoned = new Map<number, number>();
  /** When the last locks were released. */
  #releases: number[] = [];
  #acted = Promise.withResolvers<void>();

  constructor(
    private readonly scene: LockScene,
    private readonly clock: Clock,
    private readonly told: (release: LockRelease) => void,
    private readonly failed: (why: string) => void,
  ) {}

  acted(tid: number): void {
    this.#abandoned.set(tid, this.clock.monotonicNs());
    this.#acted.resolve();
  }

  /** Threads that wait for a lock of abandoned work which nothing here may release. A verdict must not call this survived. */
  waitersLeft(): number {
    return this.#stuck().filter((wait) => this.#judge(wait, (owner) => this.#abandoned.has(owner)).owner !== null)
      .length;
  }

  /** Locks released since the given time of the monotonic clock. */
  releasedSince(sinceNs: number): number {
    return this.#releases.filter((atNs) => atNs >= sinceNs).length;
  }

  /** Watches from the first act on, until the signal aborts. */
  async run(signal: AbortSignal): Promise<void> {
    signal.addEventListener("abort", () => this.#acted.resolve(), { once: true });
    await this.#acted.promise;
    while (!signal.aborted) {
      for (const wait of this.#stuck()) await this.#consider(wait);
      const lastNs = Math.max(...this.#abandoned.values());
      const busy = this.clock.monotonicNs() - lastNs < busyMs * 1e6;
      await this.clock.sleep(busy ? busyLookMs : calmLookMs, signal).catch(() => {});
    }
  }

  #stuck(): readonly LockWait[] {
    const nowNs = this.clock.monotonicNs();
    return this.scene.lockWaits().filter((wait) => nowNs - wait.sinceNs >= patienceNs);
  }

  async #consider(wait: LockWait): Promise<void> {
    // A thread that waits for a lock of its own has it from work that was abandoned: new work would never come to wait.
    const isAbandoned = (owner: number): boolean =>
      this.#abandoned.has(owner) && (owner === wait.tid || this.scene.threadState(owner) !== "busy");
    if (this.#judge(wait, isAbandoned).kind !== "leftover") return;
    try {
      await this.scene.whileStopped(wait.tid, async (control) => {
        // Judged again, because somebody may have unlocked it between the look and the stop.
        const verdict = this.#judge(wait, isAbandoned);
        if (verdict.kind !== "leftover") return;
        await control.writeMemory(verdict.at, verdict.content);
        this.#releases = [...this.#releases.slice(1 - releasesKept), this.clock.monotonicNs()];
        this.told({ at: verdict.at, owner: verdict.owner, waiter: wait.tid });
      });
    } catch (error) {
      this.failed(`a lock left by thread ${wait.tid} could not be released: ${explain(error)}`);
    }
  }

  #judge(wait: LockWait, abandoned: (owner: number) => boolean): ReturnType<typeof judgeMutex> {
    return judgeMutex(wait.at, this.scene.readMemory(wait.at, mutexBytes), abandoned);
  }
}
