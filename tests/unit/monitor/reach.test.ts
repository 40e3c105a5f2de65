// SPDX-License-Identifier: Apache-2.0
/**
 * How far numbers are reached, in a made-up memory. Gets a stack and objects; gives counts by depth and commonness.
 */
import { describe, expect, test } from "bun:test";
import { address } from "#fault.ts";
import { type ReachQuery, reachOf } from "#monitor/reach.ts";

const stackAt = 0x7000_0000;
const heapAt = 0x1000_0000;
const heapBytes = 0x2_0000;

/** A stack of 8-byte words and a heap that holds `objects` at their offsets; everything else is unmapped. */
function memory(stack: readonly bigint[], objects: Readonly<Record<number, readonly number[]>>): ReachQuery {
  const heap = new Uint8Array(heapBytes);
  for (const [offset, words] of Object.entries(objects)) {
    const view = new DataView(heap.buffer, Number(offset));
    for (const [index, word] of words.entries()) view.setUint32(index * 4, word, true);
  }
  const stackBytes = new Uint8Array(new BigUint64Array(stack).buffer);
  const read = (from: bigint, lengthBytes: number): Uint8Array => {
    const at = Number(from);
    if (at >= heapAt && at < heapAt + heapBytes) return heap.subarray(at - heapAt, at - heapAt + lengthBytes);
    if (at >= stackAt && at < stackAt + stackBytes.length)
      return stackBytes.subarray(at - stackAt, at - stackAt + lengthBytes);
    return new Uint8Array();
  };
  return {
    registers: [],
    stackFrom: address(BigInt(stackAt)),
    stackTo: address(BigInt(stackAt + stackBytes.length)),
    read,
    isObject: (at) => at >= heapAt && at < heapAt + heapBytes,
  };
}

describe("reachOf", () => {
  test("counts a number on the stack, in an object, and in an object of that object", () => {
    const far = heapAt + 0x4000;
    const query = memory([40n, BigInt(heapAt + 0x1000)], { 4096: [7, 40, far, 0], 16384: [0, 0, 40] });
    const { reach } = reachOf([40, 41], query);
    expect(reach.get(40)).toEqual({ direct: 1, near: 1, far: 1 });
    expect(reach.get(41)).toEqual({ direct: 0, near: 0, far: 0 });
  });

  test("registers count as they are; a pointer in one leads to its object", () => {
    const query = memory([], { 4096: [0, 0, 40] });
    const { reach } = reachOf([40], { ...query, registers: [40n, BigInt(heapAt + 0x1000)] });
    expect(reach.get(40)).toEqual({ direct: 1, near: 1, far: 0 });
  });

  test("a number all over the neighbourhood is common, one that stands only in the object is not", () => {
    const neighbours = Array.from({ length: 128 }, () => 8);
    const query = memory([BigInt(heapAt + 0x1000)], { 3584: neighbours, 4096: [40], 4352: neighbours });
    const { commonness } = reachOf([8, 40], query);
    expect(commonness.get(8)!.near).toBeGreaterThan(0.9);
    expect(commonness.get(40)!.near).toBe(0);
  });

  test("unmapped memory, odd pointers and an empty stack say nothing", () => {
    const nothing = memory([], {});
    expect(reachOf([40], { ...nothing, registers: [0n, BigInt(heapAt + 3), 2n ** 63n] }).reach.get(40)).toEqual({
      direct: 0,
      near: 0,
      far: 0,
    });
  });
});
