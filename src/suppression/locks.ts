// SPDX-License-Identifier: Apache-2.0
/**
 * Locks that an abandoned frame has left behind. Gets the bytes of a mutex that somebody waits for, and the threads whose
 * work was abandoned; gives how to release it, or why it is left alone. Pure; never a guess.
 *
 * `pthread_mutex_t` of glibc 2.17 to 2.41, 64-bit, both architectures (`sysdeps/nptl/bits/struct_mutex.h`):
 *
 *     offset 0 i32 lock: 0 free, 1 taken, 2 taken and waited for      offset 12 u32 users
 *     offset 4 u32 count of a recursive one                          offset 16 i32 kind: 0 normal, 1 recursive,
 *     offset 8 i32 owner: thread id                                  2 error-checking, 3 adaptive; 16 robust, 32 and 64
 *                                                                    with priorities, 128 shared, 256 and 512 elision
 */
import type { VirtualAddress } from "#fault.ts";

export const mutexBytes = 40;

const plainKinds: ReadonlySet<number> = new Set([0, 1, 2, 3]);
const recursiveKind = 1;
const kindBits = 3;
const robustBit = 16;
const priorityBits = 32 | 64;
const sharedBit = 128;
const ignoredBits = sharedBit | 256 | 512;
/** The kernel's PID_MAX_LIMIT. */
const threadIdMax = 4_194_304;

export type MutexVerdict =
  /** Writing `content` at `at` frees it; one waiter must then look again. */
  | { readonly kind: "leftover"; readonly owner: number; readonly at: VirtualAddress; readonly content: Uint8Array }
  /** `owner` is the thread whose work was abandoned, or that has ended, and holds it where that is certain, else null. */
  | { readonly kind: "held"; readonly owner: number | null; readonly why: string };

/** What is known of the threads that may own a mutex. */
export interface OwnersPast {
  /** Whether its work was abandoned. */
  has(tid: number): boolean;
  /** Whether nobody has this id any more. */
  hasDied(tid: number): boolean;
}

export type MutexFields = {
  readonly lock: number;
  readonly count: number;
  readonly owner: number;
  readonly users: number;
  readonly kind: number;
};

/** Of `mutexBytes` bytes. */
export function readMutex(bytes: Uint8Array): MutexFields {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return {
    lock: view.getInt32(0, true),
    count: view.getUint32(4, true),
    owner: view.getInt32(8, true),
    users: view.getUint32(12, true),
    kind: view.getInt32(16, true),
  };
}

/** `bytes` are those at the address that a thread waits on. */
export function judgeMutex(at: VirtualAddress, bytes: Uint8Array, past: OwnersPast): MutexVerdict {
  if (bytes.length < mutexBytes) return { kind: "held", owner: null, why: "its memory cannot be read" };
  const mutex = readMutex(bytes);
  const { lock, owner, users, kind } = mutex;
  const isLeft = past.has(owner) || (isWhole(mutex) && past.hasDied(owner));
  if (!isLeft)
    return { kind: "held", owner: null, why: "no thread owns it whose work was abandoned, or that has ended" };
  if (users < 1 || lock === 0) return { kind: "held", owner: null, why: "it is not taken: this is no mutex" };
  const why = whyNotReleased(kind, lock);
  return why === null ? { kind: "leftover", owner, at, content: freed(users) } : { kind: "held", owner, why };
}

/**
 * Bytes of something else may look like the name of a thread that is no more: all else has to be that of a mutex of one
 * owner. One that processes share may be owned by a name of another PID namespace.
 */
function isWhole({ count, owner, users, kind }: MutexFields): boolean {
  if ((kind & sharedBit) !== 0) return false;
  const isCounted = (kind & kindBits) === recursiveKind ? count >= 1 : count === 0;
  return owner > 0 && owner <= threadIdMax && users === 1 && isCounted;
}

/** Why a mutex of this kind in this state must stay as it is; null where its release is certain to be right. */
function whyNotReleased(kind: number, lock: number): string | null {
  if ((kind & robustBit) !== 0) return "it is robust: its place in the owner's list is not known";
  if ((kind & priorityBits) !== 0) return "the kernel holds it by priority";
  if (!plainKinds.has(kind & ~ignoredBits)) return `it is of unknown kind ${kind}`;
  return lock === 1 || lock === 2 ? null : `its state ${lock} is none of a taken mutex`;
}

/** As `pthread_mutex_unlock` leaves it; the lock word goes with the rest in one write. */
function freed(users: number): Uint8Array {
  const content = new DataView(new ArrayBuffer(16));
  content.setUint32(12, users - 1, true);
  return new Uint8Array(content.buffer);
}
