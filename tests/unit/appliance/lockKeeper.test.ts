// SPDX-License-Identifier: Apache-2.0
/**
 * When a lock is released, under a clock that is moved by hand. Gets a program with one mutex; gives what was written to it.
 */
import { expect, test } from "bun:test";
import { LockKeeper, type LockRelease, type LockScene } from "#appliance/lockKeeper.ts";
import { ManualClock } from "#clock.ts";
import { address, type ThreadControl } from "#fault.ts";
import type { LockWait } from "#monitor/lockWaits.ts";
import { mutexBytes } from "#suppression/locks.ts";

const at = address(0x1000n);
const [owner, waiter] = [77, 88] as const;
const report = {
  ...{ tid: owner, architecture: "x86_64" as const, registers: [], inAllocator: false, frames: [] },
  stack: { from: at, bytes: "" },
};

function stage(kind = 0) {
  const clock = new ManualClock();
  const mutex = new Int32Array(mutexBytes / 4);
  mutex.set([2, 0, owner, 1, kind]);
  const program = { ownerState: "idle" as "idle" | "busy" | "gone", died: false, waits: [] as LockWait[] };
  const releases: LockRelease[] = [];
  const scene: LockScene = {
    lockWaits: () => program.waits,
    threadIds: () => [owner, waiter],
    threadState: () => program.ownerState,
    hasDied: (tid) => program.died && tid === owner,
    readMemory: () => new Uint8Array(mutex.buffer.slice(0)),
    callIn: async () => 0n,
    architecture: "x86_64",
    whileStopped: async (_tid, work) => {
      const write = async (_at: unknown, bytes: Uint8Array): Promise<void> => new Uint8Array(mutex.buffer).set(bytes);
      await work({ writeMemory: write } as unknown as ThreadControl);
    },
  };
  const stuck: string[] = [];
  const keeper = new LockKeeper(
    scene,
    clock,
    (release) => releases.push(release),
    () => {},
    (why) => stuck.push(why),
  );
  const end = new AbortController();
  void keeper.run(end.signal);
  const wait = (): void => void program.waits.push({ tid: waiter, at, sinceNs: clock.monotonicNs() });
  return { clock, mutex, program, releases, stuck, keeper, wait };
}

test("a waiter of 100 ms gets the lock of abandoned work", async () => {
  const { clock, mutex, releases, keeper, wait } = stage();
  keeper.acted(report, "abandon");
  wait();
  await clock.advance(60);
  expect(releases).toEqual([]);
  await clock.advance(100);
  expect(releases).toEqual([{ at, owner, waiter }]);
  expect([...mutex.subarray(0, 4)]).toEqual([0, 0, 0, 0]);
  expect(keeper.releasedSince(0)).toBe(1);
  expect(keeper.waitersLeft()).toBe(0);
});

test.each(["after an act of another thread", "of an earlier supervisor's"])(
  "a thread that has ended, %s",
  async (which) => {
    const { clock, program, releases, keeper, wait } = stage();
    program.died = true;
    wait();
    await clock.advance(2000);
    expect(releases).toEqual([]);
    if (which.startsWith("after")) keeper.acted({ ...report, tid: owner + 1 }, "abandon");
    else keeper.takeOver();
    for (const ms of [1, 1000]) {
      await clock.advance(ms);
    }
    expect(releases).toEqual([{ at, owner, waiter }]);
  },
);

test("nothing is released before an act, for an owner that still works, or for one that nobody made abandon anything", async () => {
  const untouched = stage();
  untouched.wait();
  await untouched.clock.advance(2000);
  expect(untouched.releases).toEqual([]);
  const working = stage();
  working.program.ownerState = "busy";
  working.keeper.acted(report, "abandon");
  working.wait();
  await working.clock.advance(2000);
  expect(working.releases).toEqual([]);
  const other = stage();
  other.keeper.acted({ ...report, tid: owner + 1 }, "abandon");
  other.wait();
  await other.clock.advance(2000);
  expect(other.releases).toEqual([]);
});

test("a thread that waits for a lock of its own gets it, busy as it is", async () => {
  const { clock, program, releases, keeper } = stage();
  program.ownerState = "busy";
  keeper.acted(report, "abandon");
  program.waits.push({ tid: owner, at, sinceNs: clock.monotonicNs() });
  await clock.advance(60);
  await clock.advance(100);
  expect(releases).toEqual([{ at, owner, waiter: owner }]);
});

test("a lock that may not be released is counted against the verdict", async () => {
  const { clock, releases, keeper, wait } = stage(32);
  keeper.acted(report, "abandon");
  wait();
  await clock.advance(500);
  expect(releases).toEqual([]);
  expect(keeper.waitersLeft()).toBe(1);
});

test("who waits for ever is told once, and never while the holder is at work", async () => {
  const { clock, program, stuck, keeper, wait } = stage(0x4000);
  program.ownerState = "busy";
  keeper.acted(report, "abandon");
  wait();
  await clock.advance(6000);
  expect(stuck).toEqual([]);
  expect(keeper.isStuck()).toBe(false);
  program.ownerState = "idle";
  for (let look = 0; look < 5; look += 1) await clock.advance(500);
  expect(stuck).toEqual([
    `thread ${waiter} waits for a lock that thread ${owner} has left behind: it is of unknown kind 16384`,
  ]);
  expect(keeper.isStuck()).toBe(true);
});

test("a lock held for reading is given back only while no living thread can hold it", async () => {
  const clock = new ManualClock();
  const lock = address(0x5000n);
  const bytes = new Uint8Array(new Int32Array([8 | 2, 0, 2, 3, ...Array.from({ length: 10 }, () => 0)]).buffer);
  const states = new Map<number, "idle" | "busy">([[owner, "idle"]]);
  const calls: (readonly [number, string, bigint])[] = [];
  const other = 99;
  states.set(other, "busy");
  const scene: LockScene = {
    lockWaits: () => [{ tid: waiter, at: address(lock + 8n), sinceNs: 0 }],
    threadIds: () => [owner, waiter, other],
    threadState: (tid) => states.get(tid) ?? "busy",
    readMemory: (from) => (from === lock ? bytes : new Uint8Array()),
    callIn: async (tid, name, argument) => {
      calls.push([tid, name, argument]);
      return 0n;
    },
    architecture: "x86_64",
    whileStopped: async () => {},
  };
  const keeper = new LockKeeper(
    scene,
    clock,
    () => {},
    () => {},
  );
  const end = new AbortController();
  void keeper.run(end.signal);
  const words = new Uint8Array(new BigUint64Array([0n, lock - 64n]).buffer);
  keeper.acted({ ...report, stack: { from: at, bytes: Buffer.from(words).toString("hex") } }, "abandon");
  const pass = async (): Promise<void> => {
    for (let look = 0; look < 8; look += 1) await clock.advance(60);
  };
  await pass();
  expect(calls).toEqual([]);
  states.set(other, "idle");
  await pass();
  expect(calls[0]).toEqual([owner, "pthread_rwlock_unlock", lock]);
  end.abort();
});
