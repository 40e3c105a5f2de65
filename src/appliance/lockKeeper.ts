// SPDX-License-Identifier: Apache-2.0
/**
 * Demand-driven restoration inside the program: a lock that abandoned work left behind is released when, and only when,
 * another thread is seen waiting for it.
 *
 *     act on thread T ─▶ look every 50 ms ─▶ somebody waits 100 ms for a lock of T's, T is idle ─▶ release, wake one
 *                                                                                └─of no known kind, for 5 s─▶ said, once
 *
 * A mutex of a thread that has ended is a leftover too: some programs cancel threads of their own on the way to abort (redis,
 * whose workers end with their queue's mutex taken), and what goes on would wait for ever.
 *
 * Nothing is undone up front and nothing is guessed: a lock of an unknown kind stays, and the verdict says who waits.
 */
import { type Clock, sleepToBeat } from "#clock.ts";
import { explain } from "#errors.ts";
import type { Architecture, Rung, ThreadControl, VirtualAddress } from "#fault.ts";
import type { LockWait } from "#monitor/lockWaits.ts";
import { judgeLock, type LockVerdict, type UnlockFunction } from "#suppression/lockKinds.ts";
import { AbandonedWorks, type ActedOn } from "./abandonedWork.ts";

const busyLookMs = 50;
const calmLookMs = 500;
/** A program of a thousand threads is looked at less often: rest takes so many times as long as a look. */
const restToLook = 40;
/** The same where a look is mostly waiting, for a guest's answers. */
const restToRemoteLook = 4;
/** Looks come often for so long after an act. */
const busyMs = 10_000;
const patienceNs = 100e6;
const releasesKept = 64;
/** Somebody who waits so long for what cannot be released will wait for ever. */
const stuckNs = 5e9;
const stuckToldMax = 64;
/** glibc's largest lock. */
const lockBytesMax = 56n;

/** What is looked at of a program; implemented by the watch, and by that of a guest's program. */
export interface LockLooks {
  /** Reads what the others tell, where that is not read at once. */
  refresh?(): Promise<void>;
  lockWaits(): readonly LockWait[];
  threadIds(): readonly number[];
  threadState(tid: number): "idle" | "busy" | "gone";
  /** Whether nobody has this id any more; left out where that cannot be told. */
  hasDied?(tid: number): boolean;
  readMemory(from: VirtualAddress, lengthBytes: number): Uint8Array;
}

/** What the keeper needs of a program (lockScene.ts). */
export interface LockScene extends LockLooks {
  /** Stops a thread that waits, for as long as `work` takes. Its wait is then made again by the kernel. */
  whileStopped(tid: number, work: (control: ThreadControl) => Promise<void>): Promise<void>;
  /** Has a thread that waits for work call a function of the C library. */
  callIn(tid: number, name: UnlockFunction, argument: VirtualAddress): Promise<bigint>;
  readonly architecture: Architecture;
}

export type LockRelease = { readonly at: VirtualAddress; readonly owner: number; readonly waiter: number };

export class LockKeeper {
  readonly #works = new AbandonedWorks();
  /** When the last locks were released. */
  #releases: number[] = [];
  /** Locks that their holder could not give back. */
  readonly #refused = new Set<VirtualAddress>();
  readonly #toldStuck = new Set<VirtualAddress>();
  #acted = Promise.withResolvers<void>();

  constructor(
    private readonly scene: LockScene,
    private readonly clock: Clock,
    private readonly told: (release: LockRelease) => void,
    private readonly failed: (why: string) => void,
    /** Somebody waits for ever, for what nobody can release. Told once for each lock. */
    private readonly stuck: (why: string) => void = failed,
  ) {}

  acted(report: ActedOn, rung: Rung): void {
    this.#works.note(report, rung, this.clock.monotonicNs());
    this.#acted.resolve();
  }

  /** An earlier supervisor may have acted: what it knew is gone, but not who has ended. */
  takeOver(): void {
    this.#acted.resolve();
  }

  /** Threads that wait for a lock of abandoned work which nothing here may release. A verdict must not call this survived. */
  waitersLeft(): number {
    return this.#stuck().filter((wait) => this.#judge(wait, () => true).owner !== null).length;
  }

  /** Whether somebody waits for a lock whose holder has come back to its idle point without it, or is gone. */
  isStuck(): boolean {
    return this.#stuck().some((wait) => this.#judge(wait, this.#isPast(wait)).owner !== null);
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
      const beganNs = this.clock.monotonicNs();
      if (this.scene.refresh !== undefined) await this.scene.refresh();
      const stuck = this.#stuck();
      const lookedMs = (this.clock.monotonicNs() - beganNs) / 1e6;
      for (const wait of stuck) await this.#consider(wait);
      const busy = this.clock.monotonicNs() - this.#works.lastNs < busyMs * 1e6;
      const rest = this.scene.refresh === undefined ? restToLook : restToRemoteLook;
      const waitMs = Math.max(busy ? busyLookMs : calmLookMs, lookedMs * rest);
      await sleepToBeat(this.clock, waitMs, signal).catch(() => {});
    }
  }

  #stuck(): readonly LockWait[] {
    const nowNs = this.clock.monotonicNs();
    return this.scene.lockWaits().filter((wait) => nowNs - wait.sinceNs >= patienceNs);
  }

  async #consider(wait: LockWait): Promise<void> {
    const isPast = this.#isPast(wait);
    const verdict = this.#judge(wait, isPast);
    try {
      if (verdict.kind === "leftover") await this.#free(wait, isPast);
      else if (verdict.kind === "call") await this.#giveBack(wait, verdict);
      else this.#tellStuck(wait);
    } catch (error) {
      this.failed(`a lock that thread ${wait.tid} waits for could not be released: ${explain(error)}`);
    }
  }

  /** A thread that waits for a lock of its own has it from work that was abandoned: new work would never come to wait. */
  #isPast(wait: LockWait): (owner: number) => boolean {
    return (owner) => owner === wait.tid || this.#works.isParked(owner) || this.scene.threadState(owner) !== "busy";
  }

  async #free(wait: LockWait, isPast: (owner: number) => boolean): Promise<void> {
    await this.scene.whileStopped(wait.tid, async (control) => {
      // Judged again, because somebody may have unlocked it between the look and the stop.
      const verdict = this.#judge(wait, isPast);
      if (verdict.kind !== "leftover") return;
      await control.writeMemory(verdict.at, verdict.content);
      this.#tell({ at: verdict.at, owner: verdict.owner, waiter: wait.tid });
    });
  }

  /** The holder gives it back itself: where it is gone, the kernel has done so, or nobody can. */
  async #giveBack(wait: LockWait, verdict: Extract<LockVerdict, { kind: "call" }>): Promise<void> {
    const { owner, argument } = verdict;
    if (this.#refused.has(argument) || this.#refused.size >= stuckToldMax) return;
    const answer = await this.scene.callIn(owner, verdict.function, argument);
    if (answer === 0n) return this.#tell({ at: argument, owner, waiter: wait.tid });
    this.#refused.add(argument);
    this.failed(`${verdict.function} in thread ${owner} gave ${answer}`);
  }

  #tell(release: LockRelease): void {
    this.#releases = [...this.#releases.slice(1 - releasesKept), this.clock.monotonicNs()];
    this.told(release);
  }

  #tellStuck(wait: LockWait): void {
    const verdict = this.#judge(wait, this.#isPast(wait));
    if (verdict.owner === null || this.clock.monotonicNs() - wait.sinceNs < stuckNs) return;
    if (this.#toldStuck.has(wait.at) || this.#toldStuck.size >= stuckToldMax) return;
    this.#toldStuck.add(wait.at);
    const why = verdict.kind === "held" ? `: ${verdict.why}` : "";
    this.stuck(`thread ${wait.tid} waits for a lock that thread ${verdict.owner} has left behind${why}`);
  }

  /** `isPast` says of a thread whose work was abandoned whether it is certain that it holds nothing of newer work. */
  #judge(wait: LockWait, isPast: (owner: number) => boolean): LockVerdict {
    const works = this.#works;
    const past = (tid: number | null): number | null => (tid !== null && isPast(tid) ? tid : null);
    const read = (from: VirtualAddress, bytes: number): Uint8Array => this.scene.readMemory(from, bytes);
    const work = {
      has: (tid: number) => works.has(tid) && isPast(tid),
      hasDied: (tid: number) => this.scene.hasDied?.(tid) ?? false,
      threadAt: (pointer: bigint) => past(works.threadAt(pointer)),
      allocatingWith: (at: VirtualAddress) => past(works.allocatingWith(at)),
      reading: (lock: VirtualAddress) => {
        const tid = past(works.holding(lock));
        return tid !== null && this.#isAllAtRest(lock) ? tid : null;
      },
    };
    return judgeLock(wait.at, read, work, this.scene.architecture);
  }

  /** Whether every thread waits for work, or for this lock. */
  #isAllAtRest(lock: VirtualAddress): boolean {
    const waiting = new Set(
      this.scene
        .lockWaits()
        .filter(({ at }) => at >= lock && at < lock + lockBytesMax)
        .map(({ tid }) => tid),
    );
    return this.scene.threadIds().every((tid) => waiting.has(tid) || this.scene.threadState(tid) === "idle");
  }
}
