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
import { address, type VirtualAddress } from "#fault.ts";

export const mutexBytes = 40;

const plainKinds: ReadonlySet<number> = new Set([0, 1, 2, 3]);
const robustBit = 16;
const priorityBits = 32 | 64;
const ignoredBits = 128 | 256 | 512;

export type MutexVerdict =
  /** Writing `content` at `at` frees it; one waiter must then look again. */
  | { readonly kind: "leftover"; readonly owner: number; readonly at: VirtualAddress; readonly content: Uint8Array }
  | { readonly kind: "held"; readonly why: string };

/** `bytes` are those at the address that a thread waits on; `abandoned` says of a thread id whether its work was abandoned. */
export function judgeMutex(at: VirtualAddress, bytes: Uint8Array, abandoned: (owner: number) => boolean): MutexVerdict {
  if (bytes.length < mutexBytes) return { kind: "held", why: "its memory cannot be read" };
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const [lock, owner, users, kind] = [
    view.getInt32(0, true),
    view.getInt32(8, true),
    view.getUint32(12, true),
    view.getInt32(16, true),
  ];
  if (!abandoned(owner)) return { kind: "held", why: "no thread owns it whose work was abandoned" };
  if ((kind & robustBit) !== 0)
    return { kind: "held", why: "it is robust: its place in the owner's list is not known" };
  if ((kind & priorityBits) !== 0) return { kind: "held", why: "the kernel holds it by priority" };
  if (!plainKinds.has(kind & ~ignoredBits)) return { kind: "held", why: `it is of unknown kind ${kind}` };
  if (lock !== 1 && lock !== 2) return { kind: "held", why: `its state ${lock} is none of a taken mutex` };
  if (users < 1) return { kind: "held", why: "it has no user: this is no mutex" };
  return { kind: "leftover", owner, at: address(at), content: freed(view, users) };
}

/** As `pthread_mutex_unlock` leaves it: count and owner first, the lock word with them in one write. */
function freed(view: DataView, users: number): Uint8Array {
  const content = new Uint8Array(new ArrayBuffer(16));
  const after = new DataView(content.buffer);
  after.setInt32(0, 0, true);
  after.setUint32(4, 0, true);
  after.setInt32(8, 0, true);
  after.setUint32(12, users - 1, true);
  return view.byteLength < 16 ? new Uint8Array() : content;
}
