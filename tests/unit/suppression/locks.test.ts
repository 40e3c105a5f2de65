// SPDX-License-Identifier: Apache-2.0
/**
 * Which mutex may be released. Gets the bytes of glibc's pthread_mutex_t in made-up states; gives the verdict.
 */
import { expect, test } from "bun:test";
import { address } from "#fault.ts";
import { judgeMutex, mutexBytes } from "#suppression/locks.ts";

const at = address(0x1000n);
const mutex = (lock: number, count: number, owner: number, users: number, kind: number): Uint8Array => {
  const view = new DataView(new ArrayBuffer(mutexBytes));
  for (const [index, value] of [lock, count, owner, users, kind].entries()) view.setInt32(index * 4, value, true);
  return new Uint8Array(view.buffer);
};
const judge = (bytes: Uint8Array) =>
  judgeMutex(at, bytes, { has: (owner) => owner === 77, hasDied: (owner) => owner > 90 });

test("a taken mutex of an abandoned thread is freed as unlock would leave it", () => {
  for (const kind of [0, 1, 2, 3, 128, 256, 513]) {
    const verdict = judge(mutex(2, kind & 1, 77, 1, kind));
    expect(verdict).toMatchObject({ kind: "leftover", owner: 77, at });
    if (verdict.kind === "leftover") expect([...verdict.content]).toEqual(new Array(16).fill(0));
  }
});

test("other users stay counted", () => {
  const verdict = judge(mutex(2, 1, 77, 3, 1));
  expect(verdict.kind === "leftover" && verdict.content[12]).toBe(2);
});

test("a mutex of a thread that has ended is freed, where it has all that one owner's mutex has", () => {
  for (const kind of [0, 1, 2, 3])
    expect(judge(mutex(2, kind === 1 ? 1 : 0, 99, 1, kind))).toMatchObject({ owner: 99, at });
  const others = [
    mutex(2, 0, 99, 32_512, 0),
    mutex(2, 1, 99, 1, 0),
    mutex(2, 0, 99, 1, 1),
    mutex(2, 0, 5_000_000, 1, 0),
    mutex(2, 0, 99, 1, 128),
  ];
  for (const bytes of [...others, mutex(2, 0, 99, 1, 16), mutex(9, 0, 99, 1, 0)])
    expect(judge(bytes).kind).toBe("held");
});

test("everything else is left alone", () => {
  const held: [string, Uint8Array][] = [
    ["another owner", mutex(2, 0, 78, 1, 0)],
    ["free", mutex(0, 0, 77, 0, 0)],
    ["no users", mutex(2, 0, 77, 0, 0)],
    ["robust", mutex(77, 0, 77, 1, 16)],
    ["by priority", mutex(77, 0, 77, 1, 32)],
    ["unknown kind", mutex(2, 0, 77, 1, 4)],
    ["unknown state", mutex(9, 0, 77, 1, 0)],
    ["cut off", mutex(2, 0, 77, 1, 0).subarray(0, 20)],
  ];
  expect(held.filter(([, bytes]) => judge(bytes).kind !== "held").map(([name]) => name)).toEqual([]);
});
