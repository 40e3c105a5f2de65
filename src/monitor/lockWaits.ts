// SPDX-License-Identifier: Apache-2.0
/**
 * Threads that wait for a lock: blocked in futex(2) elsewhere than where they wait for work. Gets a pid; gives who waits
 * on which address since when. Nothing is stopped.
 *
 * Limit: 1,024 threads a look. Source: futex(2); operations of `include/uapi/linux/futex.h`.
 */
import { type Architecture, address, type VirtualAddress } from "#fault.ts";
import { type BlockedThread, readBlocked, readThreads } from "./processes.ts";

const threadsMax = 1024;
const futexNumber: Readonly<Record<Architecture, number>> = { x86_64: 202, aarch64: 98 };
const operationMask = 0x7fn; // without FUTEX_PRIVATE_FLAG and FUTEX_CLOCK_REALTIME
/** FUTEX_WAIT, FUTEX_LOCK_PI, FUTEX_WAIT_BITSET. */
const waitOperations: ReadonlySet<bigint> = new Set([0n, 6n, 9n]);

export type LockWait = {
  readonly tid: number;
  readonly at: VirtualAddress;
  readonly sinceNs: number;
};

export class LockWaits {
  #waits = new Map<number, LockWait & { readonly sp: VirtualAddress }>();

  constructor(
    private readonly pid: number,
    private readonly architecture: Architecture,
    private readonly isIdle: (tid: number, blocked: BlockedThread) => boolean,
  ) {}

  /** All waits as they are now; a wait that was there at the last look keeps its beginning. */
  look(nowNs: number): readonly LockWait[] {
    const before = this.#waits;
    this.#waits = new Map();
    for (const tid of readThreads(this.pid).slice(0, threadsMax)) {
      const blocked = readBlocked(this.pid, tid);
      if (blocked === null || !this.#isLockWait(tid, blocked)) continue;
      const at = address(blocked.arguments[0]!);
      const known = before.get(tid);
      const same = known?.at === at && known.sp === blocked.sp;
      this.#waits.set(tid, same ? known : { tid, at, sp: blocked.sp, sinceNs: nowNs });
    }
    return [...this.#waits.values()];
  }

  #isLockWait(tid: number, blocked: BlockedThread): boolean {
    if (blocked.syscall !== futexNumber[this.architecture] || this.isIdle(tid, blocked)) return false;
    return waitOperations.has((blocked.arguments[1] ?? 0n) & operationMask & ~0x100n);
  }
}
