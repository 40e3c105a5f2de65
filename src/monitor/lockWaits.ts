// SPDX-License-Identifier: Apache-2.0
/**
 * Threads that wait for a lock: blocked in futex(2) until another thread leaves a critical section. Gets where each thread
 * is blocked; gives who waits on which address since when. Nothing is stopped.
 *
 * Limit: 1,024 threads a look.
 */
import { type Architecture, address, type VirtualAddress } from "#fault.ts";
import { type BlockedThread, readBlocked, readThreads } from "./processes.ts";
import { futexWait, waitKind } from "./waits.ts";

const threadsMax = 1024;
export type LockWait = {
  readonly tid: number;
  readonly at: VirtualAddress;
  readonly sinceNs: number;
};

export class LockWaits {
  #waits = new Map<number, LockWait & { readonly sp: VirtualAddress }>();

  constructor(
    private readonly architecture: Architecture,
    private readonly threads: () => readonly number[],
    /** Where a thread is blocked; null where it is not. */
    private readonly blockedAt: (tid: number) => BlockedThread | null,
  ) {}

  static of(pid: number, architecture: Architecture): LockWaits {
    return new LockWaits(
      architecture,
      () => readThreads(pid),
      (tid) => readBlocked(pid, tid),
    );
  }

  /** All waits as they are now; a wait that was there at the last look keeps its beginning. */
  look(nowNs: number): readonly LockWait[] {
    const before = this.#waits;
    this.#waits = new Map();
    for (const tid of this.threads().slice(0, threadsMax)) {
      const blocked = this.blockedAt(tid);
      if (blocked === null || futexWait(blocked, this.architecture) !== "lock") continue;
      const at = address(blocked.arguments[0]!);
      const known = before.get(tid);
      const same = known?.at === at && known.sp === blocked.sp;
      this.#waits.set(tid, same ? known : { tid, at, sp: blocked.sp, sinceNs: nowNs });
    }
    return [...this.#waits.values()];
  }
}

/** Whether a thread is blocked, and not for a lock: it has come to wait for something, be it not where it was seen to before. */
export function isWaiting(blocked: BlockedThread | null, architecture: Architecture): boolean {
  return blocked !== null && waitKind(blocked.syscall, architecture) > 0 && futexWait(blocked, architecture) !== "lock";
}
