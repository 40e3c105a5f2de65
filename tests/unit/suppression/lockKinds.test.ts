// SPDX-License-Identifier: Apache-2.0
/**
 * Locks of every kind, by the bytes that a waiter waits on: whose they are, how they are given back, and what is left alone.
 */
import { expect, test } from "bun:test";
import { address } from "#fault.ts";
import { type AbandonedWork, judgeLock } from "#suppression/lockKinds.ts";

const [owner, pointer] = [77, 0x7f00_0000_0740n] as const;
const at = address(0x1000n);
const waited = 0x8000_0000;

const work: AbandonedWork = {
  has: (tid) => tid === owner,
  hasDied: () => false,
  threadAt: (one) => (one === pointer ? owner : null),
  allocatingWith: (one) => (one === at ? owner : null),
  reading: () => null,
};
const nobody: AbandonedWork = {
  has: () => false,
  hasDied: () => false,
  threadAt: () => null,
  allocatingWith: () => null,
  reading: () => null,
};

/** Memory at `at` with these 32-bit words, by offset. */
function memory(words: Readonly<Record<number, number>>, from = at) {
  const view = new DataView(new ArrayBuffer(64));
  for (const [offset, word] of Object.entries(words)) view.setUint32(Number(offset), word >>> 0, true);
  return (start: bigint, lengthBytes: number): Uint8Array =>
    start === from ? new Uint8Array(view.buffer, 0, lengthBytes) : new Uint8Array();
}
const judge = (words: Readonly<Record<number, number>>, by = work) => judgeLock(at, memory(words), by, "x86_64");

test("robust and priority-inheriting mutexes are given back by their holder", () => {
  for (const kind of [16, 17, 32, 32 | 512, 16 | 128]) {
    const words = { 0: owner | waited, 8: owner, 12: 1, 16: kind };
    const call = { kind: "call", owner, function: "pthread_mutex_unlock", argument: at } as const;
    expect(judge(words)).toEqual(call);
    expect(judge(words, nobody).kind).toBe("held");
    expect(judge({ ...words, 0: (owner + 1) | waited }).kind).toBe("held");
  }
  expect(judge({ 0: owner | waited, 8: owner, 12: 1, 16: 0x4000 }).kind).toBe("held");
});

test("a read-write lock held for writing, whichever of its words the waiter waits on", () => {
  for (const offset of [0n, 8n, 12n]) {
    const start = address(at - offset);
    const read = memory({ 0: 3, 8: 3, 12: 3, 24: owner }, start);
    const verdict = judgeLock(at, read, { ...work, allocatingWith: () => null }, "x86_64");
    expect(verdict).toEqual({ kind: "call", owner, function: "pthread_rwlock_unlock", argument: start });
    const readers = memory({ 0: 8 | 2, 8: 2, 12: 3, 24: 0 }, start);
    expect(judgeLock(at, readers, { ...work, allocatingWith: () => null }, "x86_64").kind).toBe("held");
  }
});

test("a read-write lock held for reading: one reader, a writer that waits, and it is certain who", () => {
  const start = address(at - 8n);
  const known: AbandonedWork = { ...nobody, reading: (lock) => (lock === start ? owner : null) };
  const kindOf = (words: Readonly<Record<number, number>>, by = known): string =>
    judgeLock(at, memory(words, start), by, "x86_64").kind;
  const held = { 0: 8 | 2, 8: 2, 12: 3 };
  expect(judgeLock(at, memory(held, start), known, "x86_64")).toEqual({
    ...{ kind: "call", owner, function: "pthread_rwlock_unlock", argument: start },
  });
  expect(kindOf(held, nobody)).toBe("held");
  expect(kindOf({ ...held, 0: 16 | 2 })).toBe("held");
  expect(kindOf({ ...held, 0: 8 })).toBe("held");
  expect(kindOf({ ...held, 24: 99 })).toBe("held");
  expect(kindOf({ ...held, 48: 77 })).toBe("held");
});

test("locks that name their holder by its thread pointer, and arenas that name nobody", () => {
  const [low, high] = [Number(pointer & 0xffff_ffffn), Number(pointer >> 32n)];
  expect(judge({ 0: 2, 4: 1, 8: low, 12: high })).toEqual({ kind: "leftover", owner, at, content: new Uint8Array(16) });
  expect(judge({ 0: 2, 4: 99, 8: 5 })).toEqual({ kind: "leftover", owner, at, content: new Uint8Array(4) });
  expect(judge({ 0: 2, 4: 99, 8: 5 }, nobody).kind).toBe("held");
  expect(judge({ 0: 7, 4: 99, 8: 5 }).kind).toBe("held");
});
