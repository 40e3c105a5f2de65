// SPDX-License-Identifier: Apache-2.0
/**
 * Which system calls a thread makes to wait for work. Gets a number and an architecture; gives how surely it is a wait
 * for work: 2 a multiplexer, 1 one thing at a time, 0 something else.
 *
 * Source: `arch/x86/entry/syscalls/syscall_64.tbl` and `include/uapi/asm-generic/unistd.h`, Linux 6.1.
 */
import { type Architecture, address, type VirtualAddress } from "#fault.ts";

export type WaitKind = 0 | 1 | 2;

const multiplexers: Readonly<Record<Architecture, ReadonlySet<number>>> = {
  // poll, select, epoll_wait, pselect6, ppoll, epoll_pwait, io_getevents, io_uring_enter, epoll_pwait2
  x86_64: new Set([7, 23, 232, 270, 271, 281, 208, 426, 441]),
  // pselect6, ppoll, epoll_pwait, io_getevents, io_uring_enter, epoll_pwait2
  aarch64: new Set([72, 73, 22, 4, 426, 441]),
};

const singleWaits: Readonly<Record<Architecture, ReadonlySet<number>>> = {
  // read, readv, recvfrom, recvmsg, accept, accept4, pause, nanosleep, clock_nanosleep, wait4, waitid, rt_sigsuspend,
  // rt_sigtimedwait, futex, msgrcv, semop, mq_timedreceive
  x86_64: new Set([0, 19, 45, 47, 43, 288, 34, 35, 230, 61, 247, 130, 128, 202, 70, 65, 243]),
  aarch64: new Set([63, 65, 207, 212, 202, 242, 101, 115, 260, 95, 133, 137, 98, 188, 193, 183]),
};

/** Waits whose first argument is the one descriptor that they are for. */
const descriptorWaits: Readonly<Record<Architecture, ReadonlySet<number>>> = {
  // epoll_wait, epoll_pwait, epoll_pwait2, read, readv, recvfrom, recvmsg, accept, accept4
  x86_64: new Set([232, 281, 441, 0, 19, 45, 47, 43, 288]),
  aarch64: new Set([22, 441, 63, 65, 207, 212, 202, 242]),
};

/** The descriptor that a blocked thread waits on; null where it waits on several or for something else. */
export function waitedDescriptor(
  call: { readonly syscall: number; readonly arguments: readonly bigint[] },
  architecture: Architecture,
): number | null {
  if (!descriptorWaits[architecture].has(call.syscall)) return null;
  return Number(BigInt.asIntN(32, call.arguments[0] ?? -1n));
}

/** poll(2) and ppoll(2): an array of descriptors, and how many. */
const polls: Readonly<Record<Architecture, ReadonlySet<number>>> = {
  x86_64: new Set([7, 271]),
  aarch64: new Set([73]),
};
const pollBytes = 8;

/**
 * The one descriptor that a thread polls; null where it polls several, or does something else. A poll that was interrupted
 * goes on as restart_syscall(2), with its arguments.
 */
export function polledDescriptor(
  call: { readonly syscall: number; readonly arguments: readonly bigint[] },
  architecture: Architecture,
  read: (from: VirtualAddress, lengthBytes: number) => Uint8Array,
): number | null {
  if (!polls[architecture].has(call.syscall) && call.syscall !== restarted[architecture]) return null;
  const [array = 0n, count = 0n] = call.arguments;
  if ((count & 0xffff_ffffn) !== 1n || array === 0n) return null;
  const bytes = read(address(array), pollBytes);
  if (bytes.length < pollBytes) return null;
  // struct pollfd: i32 descriptor, i16 events, i16 what came of it.
  const fd = new DataView(bytes.buffer, bytes.byteOffset, bytes.length).getInt32(0, true);
  return fd < 0 ? null : fd;
}

const futexNumber: Readonly<Record<Architecture, number>> = { x86_64: 202, aarch64: 98 };
const futexCommand = { wait: 0, lockPriority: 6, waitBitset: 9, mask: 0x7f };
/** The states in which glibc's and musl's locks wait: 2, 3 (read-write locks), or the owner with the bit that somebody waits. */
const contended = 2n;
const contendedPhase = 3n;
const waitersBit = 0x8000_0000n;

/** `lock`: a thread waits for another one to leave a critical section; `other`: a condition, a join, a counter; null: no futex. */
export function futexWait(
  call: { readonly syscall: number; readonly arguments: readonly bigint[] },
  architecture: Architecture,
): "lock" | "other" | null {
  if (call.syscall !== futexNumber[architecture]) return null;
  const command = Number((call.arguments[1] ?? 0n) & BigInt(futexCommand.mask));
  const expected = (call.arguments[2] ?? 0n) & 0xffff_ffffn;
  if (command === futexCommand.lockPriority) return "lock";
  if (command !== futexCommand.wait && command !== futexCommand.waitBitset) return null;
  return expected === contended || expected === contendedPhase || (expected & waitersBit) !== 0n ? "lock" : "other";
}

/**
 * restart_syscall(2): a wait with a time limit (poll has one, be it endless) that a stop has interrupted, as an attach does.
 * Which one is not told; where it returns to is.
 */
const restarted: Readonly<Record<Architecture, number>> = { x86_64: 219, aarch64: 128 };

export function waitKind(syscall: number, architecture: Architecture): WaitKind {
  if (multiplexers[architecture].has(syscall)) return 2;
  return singleWaits[architecture].has(syscall) || syscall === restarted[architecture] ? 1 : 0;
}
