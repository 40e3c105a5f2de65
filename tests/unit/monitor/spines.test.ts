// SPDX-License-Identifier: Apache-2.0
/**
 * Where a spine begins. Gets looks at blocked threads and stacks of stopped ones; gives the index of the first spine frame.
 */
import { describe, expect, test } from "bun:test";
import { address } from "#fault.ts";
import { type BlockedThread, parseBlocked } from "#monitor/processes.ts";
import { type SpineFrame, Spines } from "#monitor/spines.ts";

const frame = (name: number, cfa: number, pc = name * 0x100 + 4, isPart = false): SpineFrame => ({
  cfa: address(BigInt(cfa)),
  function: address(BigInt(name * 0x100)),
  pc: address(BigInt(pc)),
  isPart,
});

const epoll: BlockedThread = { syscall: 232, arguments: [], sp: address(0x1000n), pc: address(0x10n) };
const futex: BlockedThread = { syscall: 202, arguments: [], sp: address(0x0f00n), pc: address(0x20n) };
const write: BlockedThread = { syscall: 1, arguments: [], sp: address(0x0e00n), pc: address(0x30n) };

const [wait, loop, main, lock, work, command] = [1, 2, 3, 4, 5, 6] as const;
const waiting: SpineFrame[] = [frame(wait, 0x1010), frame(loop, 0x1100), frame(main, 0x1200)];
const locking: SpineFrame[] = [frame(lock, 0x0f10), frame(work, 0x1010), frame(loop, 0x1100), frame(main, 0x1200)];

const spinesOf = (stacks: Map<BlockedThread, SpineFrame[]>): Spines =>
  new Spines("x86_64", (blocked) => stacks.get(blocked) ?? []);

describe("Spines", () => {
  test("the innermost shared activation begins the spine", () => {
    const spines = spinesOf(new Map([[epoll, waiting]]));
    spines.observe(7, epoll);
    const fault = [frame(command, 0x1000), frame(work, 0x1010), frame(loop, 0x1100, 0x2f0), frame(main, 0x1200)];
    expect(spines.spineIn(7, fault)).toBe(2);
    expect(spines.isIdle(7, epoll)).toBe(true);
  });

  test("the same function in another activation is not the spine", () => {
    const spines = spinesOf(new Map([[epoll, waiting]]));
    spines.observe(7, epoll);
    const nested = [frame(loop, 0x0f00), frame(work, 0x1010), frame(loop, 0x1100), frame(main, 0x1200)];
    expect(spines.spineIn(7, nested)).toBe(2);
  });

  test("a stack put together by guesses, its activations elsewhere: the code of the spine still tells", () => {
    const spines = spinesOf(new Map([[epoll, waiting]]));
    spines.observe(7, epoll);
    const guessed = [frame(command, 0x1000), frame(loop, 0x1108, 0x2f0), frame(main, 0x1200)];
    expect(spines.spineIn(7, guessed)).toBe(1);
  });

  test("a part of a function that lies elsewhere is the same activation, called by the same call", () => {
    const spines = spinesOf(new Map([[epoll, waiting]]));
    spines.observe(7, epoll);
    const cold = (pc: number): SpineFrame[] => [frame(9, 0x1100, 0x904, true), frame(main, 0x1200, pc)];
    expect(spines.spineIn(7, cold(0x304))).toBe(0);
    expect(spines.spineIn(7, cold(0x3f0))).toBe(1);
    expect(spines.spineIn(7, [frame(9, 0x1100), frame(main, 0x1200)])).toBe(1);
    expect(spines.spineIn(8, cold(0x304))).toBe(0);
  });

  test("functions of which nothing is known are the same activation where the same call has made them", () => {
    const unknown = (pc: number, outer: number): SpineFrame[] => [
      { ...frame(loop, 0x1100, pc), function: null },
      frame(main, 0x1200, outer),
    ];
    const spines = spinesOf(new Map([[epoll, [frame(wait, 0x1010), ...unknown(0x204, 0x304)]]]));
    spines.observe(7, epoll);
    expect(spines.spineIn(7, [frame(work, 0x1010), ...unknown(0x2f0, 0x304)])).toBe(1);
    expect(spines.spineIn(7, [frame(work, 0x1010), ...unknown(0x2f0, 0x3f0)])).toBe(2);
  });

  test("waiting for many things outweighs waiting for one, however often that is seen", () => {
    const spines = spinesOf(
      new Map([
        [epoll, waiting],
        [futex, locking],
      ]),
    );
    for (let look = 0; look < 10; look += 1) spines.observe(7, futex);
    expect(spines.isIdle(7, futex)).toBe(true);
    spines.observe(7, epoll);
    expect(spines.isIdle(7, epoll)).toBe(true);
    expect(spines.isIdle(7, futex)).toBe(false);
  });

  test("a wait that an attach has interrupted and that goes on is a wait, and is the same one when it is made again", () => {
    const restarted: BlockedThread = { ...epoll, syscall: 219 };
    const poll: BlockedThread = { ...epoll, syscall: 7 };
    const spines = spinesOf(
      new Map([
        [restarted, waiting],
        [poll, waiting],
        [futex, locking],
      ]),
    );
    spines.observe(7, restarted);
    expect(spines.isIdle(7, poll)).toBe(true);
    for (let look = 0; look < 10; look += 1) spines.observe(7, futex);
    expect(spines.isIdle(7, poll)).toBe(false);
    spines.observe(7, poll);
    expect(spines.isIdle(7, poll)).toBe(true);
  });

  test("waiting for a lock is no waiting for work", () => {
    const spines = spinesOf(new Map([[futex, locking]]));
    spines.observe(7, { ...futex, arguments: [0x5000n, 0x80n, 2n] });
    expect(spines.knows(7)).toBe(false);
    spines.observe(7, futex);
    expect(spines.knows(7)).toBe(true);
  });

  test("a system call that is no wait teaches nothing", () => {
    const spines = spinesOf(new Map([[write, waiting]]));
    spines.observe(7, write);
    expect(spines.knows(7)).toBe(false);
    expect(spines.spineIn(7, waiting)).toBeNull();
  });

  test("a new thread is compared with the others by code", () => {
    const spines = spinesOf(new Map([[epoll, waiting]]));
    spines.observe(7, epoll);
    const sibling = [frame(command, 0x9000), frame(work, 0x9010), frame(loop, 0x9100, 0x2f0), frame(main, 0x9200)];
    expect(spines.spineIn(8, sibling)).toBe(2);
    expect(spines.spineIn(8, [frame(command, 0x9000), frame(work, 0x9010)])).toBeNull();
  });

  test("a rare point is dropped before a common one", () => {
    const stacks = new Map<BlockedThread, SpineFrame[]>();
    const points = Array.from({ length: 17 }, (_, index) => ({ ...epoll, sp: address(BigInt(0x1000 + index)) }));
    for (const point of points) stacks.set(point, waiting);
    const spines = spinesOf(stacks);
    for (const point of points.slice(0, 16)) {
      spines.observe(7, point);
      spines.observe(7, point);
    }
    spines.observe(7, points[0]!);
    spines.observe(7, points[16]!);
    expect(spines.isIdle(7, points[0]!)).toBe(true);
  });
});

describe("parseBlocked", () => {
  test("a blocked thread, a running one, and garbage", () => {
    expect(parseBlocked("232 0x5 0x7f 0x2 0x64 0x0 0x8 0x7ffd1000 0x7f2200\n")).toEqual({
      syscall: 232,
      arguments: [5n, 0x7fn, 2n, 0x64n, 0n, 8n],
      sp: address(0x7ffd1000n),
      pc: address(0x7f2200n),
    });
    expect(parseBlocked("-1 0x10 0x20")).toMatchObject({ syscall: -1, arguments: [] });
    for (const text of ["running\n", "", "x 0x1 0x2", "1 1 2", "1 0x1 0xzz", `1 0x1 0x${"f".repeat(17)}`]) {
      expect(parseBlocked(text)).toBeNull();
    }
  });
});
