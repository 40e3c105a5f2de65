// SPDX-License-Identifier: Apache-2.0
/**
 * Which lock of abandoned work a thread waits for, of all kinds whose holder can be told for certain. Gets the address that
 * it waits on, a memory reader and what is known of abandoned work; gives how to release it, or why not. Pure; never a guess.
 *
 * Plain mutexes are freed by a write (locks.ts). What the kernel or other threads keep lists of is given back by the holder
 * itself, through the C library's own function: robust and priority-inheriting mutexes, read-write locks. glibc 2.25 to
 * 2.41, 64-bit, both architectures (`struct_mutex.h`, `struct_rwlock.h`, `stdio-lock.h`, `libc-lock.h`):
 *
 *     rwlock   0 u32 readers << 3 | write locked 2 | write phase 1     8 u32 write phase futex    24 i32 writer's thread id
 *              4 u32 writers                                          12 u32 writers' futex      48 u32 flags 0..2
 *     stream   0 i32 lock   4 i32 count   8 u64 holder: its thread pointer (x86-64); recursive locks inside libc likewise
 *     arena    0 i32 lock, and nobody's name: only where the abandoned work was inside the allocator and held the address
 */
import { type Architecture, address, type VirtualAddress } from "#fault.ts";
import { judgeMutex, type MutexVerdict, mutexBytes, type OwnersPast, readMutex } from "./locks.ts";

export type LockVerdict =
  | MutexVerdict
  /** The holder is to call this function of the C library with this argument. */
  | {
      readonly kind: "call";
      readonly owner: number;
      readonly function: UnlockFunction;
      readonly argument: VirtualAddress;
    };
export type UnlockFunction = "pthread_mutex_unlock" | "pthread_rwlock_unlock";

/** What is known of threads whose work was abandoned. */
export interface AbandonedWork extends OwnersPast {
  /** The thread with this thread pointer; null where it is none of them. */
  threadAt(pointer: bigint): number | null;
  /** The thread whose abandoned frames, inside the allocator, held this address; null where there is not exactly one. */
  allocatingWith(at: VirtualAddress): number | null;
  /**
   * The thread whose abandoned frames reached this lock, where no living work can hold it: every other thread waits for
   * work, or for this very lock. Else null.
   */
  reading(lock: VirtualAddress): number | null;
}

export type ReadLock = (from: VirtualAddress, lengthBytes: number) => Uint8Array;

const rwlockBytes = 56;
const writeHeld = 3;
/** A writer has taken it and waits for the readers to leave; above these bits they are counted. */
const wanted = 2;
const readersShift = 3;
const flagsMax = 2;
const robustBit = 16;
const priorityInherit = 32;
/** Type, robust, with priority, shared, and the two bits of lock elision. */
const kindBits = 0x3ff;
const ownerMask = 0x3fff_ffff;
const futexOffsets = [12n, 8n, 0n];

export function judgeLock(
  at: VirtualAddress,
  read: ReadLock,
  work: AbandonedWork,
  architecture: Architecture,
): LockVerdict {
  const bytes = read(at, mutexBytes);
  const plain = judgeMutex(at, bytes, work);
  if (plain.kind === "leftover") return plain;
  return (
    ownedByKernel(at, bytes, work) ??
    writeLocked(at, read, work) ??
    readLocked(at, read, work) ??
    (architecture === "x86_64" ? recursive(at, bytes, work) : null) ??
    arena(at, bytes, work) ??
    plain
  );
}

/** Robust and priority-inheriting mutexes: the lock word itself names the holder. */
function ownedByKernel(at: VirtualAddress, bytes: Uint8Array, work: AbandonedWork): LockVerdict | null {
  if (bytes.length < mutexBytes) return null;
  const { lock, owner, users, kind } = readMutex(bytes);
  if ((lock & ownerMask) !== owner || users < 1 || !work.has(owner)) return null;
  const isKnown = (kind & (robustBit | priorityInherit)) !== 0 && (kind & ~kindBits) === 0;
  return isKnown ? { kind: "call", owner, function: "pthread_mutex_unlock", argument: at } : null;
}

function writeLocked(at: VirtualAddress, read: ReadLock, work: AbandonedWork): LockVerdict | null {
  for (const offset of futexOffsets) {
    const start = address(at - offset);
    const bytes = read(start, rwlockBytes);
    if (bytes.length < rwlockBytes) continue;
    const view = viewOf(bytes);
    const owner = view.getInt32(24, true);
    const isHeld = (view.getUint32(0, true) & writeHeld) === writeHeld && view.getUint32(48, true) <= flagsMax;
    if (isHeld && owner > 0 && work.has(owner)) {
      return { kind: "call", owner, function: "pthread_rwlock_unlock", argument: start };
    }
  }
  return null;
}

/** One reader holds it and a writer waits for it. A reader leaves no name, so it takes more to know whose it is. */
function readLocked(at: VirtualAddress, read: ReadLock, work: AbandonedWork): LockVerdict | null {
  for (const offset of futexOffsets) {
    const start = address(at - offset);
    const bytes = read(start, rwlockBytes);
    if (bytes.length < rwlockBytes) continue;
    const view = viewOf(bytes);
    const isOneReader =
      view.getUint32(0, true) >>> readersShift === 1 && (view.getUint32(0, true) & writeHeld) === wanted;
    const isLock =
      view.getInt32(24, true) === 0 && view.getUint32(28, true) <= 1 && view.getUint32(48, true) <= flagsMax;
    const owner = isOneReader && isLock ? work.reading(start) : null;
    if (owner !== null) return { kind: "call", owner, function: "pthread_rwlock_unlock", argument: start };
  }
  return null;
}

/** As the last unlock leaves it: count, holder and lock word in one write. */
function recursive(at: VirtualAddress, bytes: Uint8Array, work: AbandonedWork): LockVerdict | null {
  if (bytes.length < 16) return null;
  const view = viewOf(bytes);
  const owner = work.threadAt(view.getBigUint64(8, true));
  if (owner === null || !isTaken(view) || view.getInt32(4, true) < 1) return null;
  return { kind: "leftover", owner, at, content: new Uint8Array(16) };
}

function arena(at: VirtualAddress, bytes: Uint8Array, work: AbandonedWork): LockVerdict | null {
  if (bytes.length < 4 || !isTaken(viewOf(bytes))) return null;
  const owner = work.allocatingWith(at);
  return owner === null ? null : { kind: "leftover", owner, at, content: new Uint8Array(4) };
}

const isTaken = (view: DataView): boolean => view.getInt32(0, true) === 1 || view.getInt32(0, true) === 2;
const viewOf = (bytes: Uint8Array): DataView => new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
