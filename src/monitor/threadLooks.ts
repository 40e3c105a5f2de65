// SPDX-License-Identifier: Apache-2.0
/**
 * Looks at the threads of a program through /proc, to learn how each waits for work and on what. Gets the program's threads,
 * spines and connections, which take what was seen; stops nothing. How often: waitLooks.ts.
 */
import type { Clock } from "#clock.ts";
import type { Architecture } from "#fault.ts";
import type { BoundConnections } from "./boundConnections.ts";
import { readBlocked, readThreads } from "./processes.ts";
import type { Spines } from "./spines.ts";
import type { ThreadCensus } from "./threadCensus.ts";
import { lookForWaits } from "./waitLooks.ts";
import { waitKind } from "./waits.ts";

/** Looks at other threads while one is stopped; each takes some 50 µs. */
const peersMax = 8;
export type Looked = {
  readonly pid: number;
  readonly architecture: Architecture;
  readonly clock: Clock;
  readonly census: ThreadCensus;
  readonly spines: Spines;
  readonly bound: BoundConnections;
  /** The thread waits for work. */
  readonly idle: (tid: number) => void;
};

export class ThreadLooks {
  /** The threads, as last listed. */
  #listed: readonly number[] = [];

  constructor(private readonly of: Looked) {}

  /** Looks until the signal aborts. Never rejects for a program that is gone. */
  run(signal: AbortSignal): Promise<void> {
    const { bound, clock } = this.of;
    const looks = {
      all: () => this.once(),
      unknown: () => this.#lookAtUnknown(),
      isLacking: () => this.#listed.some((tid) => bound.lacks(tid)),
    };
    return lookForWaits(looks, clock, signal);
  }

  /** Looks at every thread once; true while some thread's way of waiting is not known. */
  once(): boolean {
    return this.#lookAt(this.#list());
  }

  /** A thread that stops before it was ever seen waiting is known by others that run the same code. */
  atPeers(): void {
    const unknown = readThreads(this.of.pid).filter((tid) => !this.of.spines.knows(tid));
    this.#lookAt(unknown.slice(0, peersMax));
  }

  /** Looks at threads that were never seen waiting, or not on what: mostly none, then it costs one listing. */
  #lookAtUnknown(): boolean {
    const { spines, bound } = this.of;
    return this.#lookAt(this.#list().filter((tid) => !spines.knows(tid) || bound.lacks(tid)));
  }

  #list(): readonly number[] {
    this.#listed = this.of.census.list();
    return this.#listed;
  }

  #lookAt(threads: readonly number[]): boolean {
    const { pid, architecture, spines, bound, idle } = this.of;
    let unknown = false;
    for (const tid of threads) {
      const blocked = readBlocked(pid, tid);
      if (blocked !== null && waitKind(blocked.syscall, architecture) > 0) spines.observe(tid, blocked);
      if (blocked !== null && spines.isIdle(tid, blocked)) {
        idle(tid);
        bound.note(tid, blocked);
      }
      if (!spines.knows(tid)) unknown = true;
    }
    return unknown;
  }
}
