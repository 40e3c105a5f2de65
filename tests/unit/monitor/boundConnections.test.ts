// SPDX-License-Identifier: Apache-2.0
/** Whose connection is whose, in a server that gives each a thread. */
import { expect, test } from "bun:test";
import { address } from "#fault.ts";
import { BoundConnections } from "#monitor/boundConnections.ts";

const [recvfrom, epollWait, poll, restart, futex] = [45, 232, 7, 219, 202];
const array = 0x7f00_0000n;

/** A process whose descriptors are these sockets, and whose poll array names this descriptor. */
function program(sockets: Map<number, string>, polled = 0): BoundConnections {
  const readMemory = (from: bigint): Uint8Array =>
    from === array ? Uint8Array.from([polled, 0, 0, 0, 1, 0, 0, 0]) : new Uint8Array();
  return new BoundConnections({ pid: 1, architecture: "x86_64", readMemory }, (fd) => sockets.get(fd) ?? null);
}
const blocked = (syscall: number, ...words: bigint[]) => ({
  ...{ syscall, arguments: words },
  sp: address(0x7000n),
  pc: address(0x4000n),
});

test("a thread's own connection is the one that it was last seen waiting on, and others' are theirs", () => {
  const bound = program(
    new Map([
      [8, "socket:[100]"],
      [9, "socket:[101]"],
    ]),
  );
  bound.note(1, blocked(recvfrom, 8n));
  bound.note(2, blocked(recvfrom, 9n));
  expect(bound.of(1, [1, 2])).toEqual({ own: 8, others: new Set([9]) });
  // Threads that are gone own nothing, and a thread of another kind says nothing of anybody's.
  expect(bound.of(1, [1])).toEqual({ own: 8, others: new Set() });
  bound.note(3, blocked(futex, 0x10n));
  expect(bound.of(3, [1, 2, 3])).toEqual({ own: null, others: new Set() });
});

test("the number of a connection that was closed is not the thread's own any more", () => {
  const sockets = new Map([[8, "socket:[100]"]]);
  const bound = program(sockets);
  bound.note(1, blocked(recvfrom, 8n));
  sockets.set(8, "socket:[777]");
  expect(bound.of(1, [1]).own).toBeNull();
  sockets.delete(8);
  expect(bound.of(1, [1]).own).toBeNull();
});

test("a poll of one descriptor is a wait on it, interrupted or not; of several, or through a multiplexer, it is not", () => {
  const sockets = new Map([
    [5, "socket:[100]"],
    [8, "socket:[101]"],
  ]);
  const bound = program(sockets, 8);
  for (const syscall of [poll, restart]) {
    bound.note(1, blocked(syscall, array, 1n, 1_000n));
    expect(bound.of(1, [1]).own).toBe(8);
    bound.note(1, blocked(syscall, array, 2n, 1_000n));
    expect(bound.of(1, [1]).own).toBeNull();
  }
  // An epoll descriptor is no socket.
  bound.note(1, blocked(epollWait, 6n));
  expect(bound.of(1, [1]).own).toBeNull();
});

test("in a pool no thread has a connection of its own: they are left to others while they live", () => {
  const sockets = new Map([8, 9, 10].map((fd) => [fd, `socket:[${fd}]`]));
  const bound = program(sockets);
  bound.note(1, blocked(recvfrom, 8n));
  bound.note(2, blocked(recvfrom, 9n));
  // Back to the queue, and on to what somebody else has had; both connections are still there.
  bound.note(1, blocked(futex, 0x10n));
  bound.note(1, blocked(recvfrom, 10n));
  expect(bound.of(2, [1, 2])).toEqual({ own: null, others: new Set() });
  // Held up with a request they can be all the same.
  expect(bound.among([1, 2])).toEqual([1, 2]);
  expect(bound.lacks(3)).toBe(false);
});

test("a thread that goes on to another connection after a close, as one out of a cache does, has it for its own", () => {
  const sockets = new Map<number, string>();
  const bound = program(sockets);
  for (let client = 0; client < 100; client += 1) {
    sockets.set(8, `socket:[${client}]`);
    bound.note(1, blocked(recvfrom, 8n));
    expect(bound.of(1, [1]).own).toBe(8);
  }
  // One look that came too late, in a hundred, changes nothing.
  sockets.set(9, "socket:[900]");
  bound.note(1, blocked(recvfrom, 9n));
  expect(bound.of(1, [1]).own).toBe(9);
});

test("two threads that were seen on one living connection are a pool's", () => {
  const sockets = new Map([8, 9].map((fd) => [fd, `socket:[${fd}]`]));
  const bound = program(sockets);
  bound.note(1, blocked(recvfrom, 8n));
  bound.note(2, blocked(recvfrom, 9n));
  bound.note(1, blocked(recvfrom, 8n));
  expect(bound.of(1, [1, 2]).own).toBe(8);
  bound.note(3, blocked(recvfrom, 8n));
  for (const tid of [1, 2, 3]) expect(bound.of(tid, [1, 2, 3])).toEqual({ own: null, others: new Set() });
});
