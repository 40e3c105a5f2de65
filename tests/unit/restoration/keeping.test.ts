// SPDX-License-Identifier: Apache-2.0
/**
 * Which checkpoints are kept, where equal pages are found again, and the order of first touches there and back.
 */
import { describe, expect, test } from "bun:test";
import { seededRandom } from "#clock.ts";
import { IdentityIndex } from "#restoration/identityIndex.ts";
import { chunkOf, chunkPages, namesOf, readChunk, runsOf, zeroChunk } from "#restoration/pageMap.ts";
import { type Kept, superfluous } from "#restoration/retention.ts";
import { packTouches, touchesMax, unpackTouches } from "#restoration/touchOrder.ts";

const minuteMs = 60_000;
const now = 1e12;
const kept = (id: string, minutes: number, more: Partial<Kept> = {}): Kept => ({
  ...{ id, atMs: now - minutes * minuteMs, good: true, pinned: false, bad: false, bytes: 10 },
  ...more,
});
const rules = { count: 3, ageMsMax: 7 * 24 * 60 * minuteMs, bytesMax: 1_000 };

describe("retention", () => {
  test("the newest, one about an hour old, one about a day old", () => {
    const own = [kept("now", 1), kept("b", 20), kept("hour", 62), kept("d", 300), kept("day", 1_430), kept("f", 3_000)];
    expect(superfluous(own, rules, now)).toEqual(["b", "d", "f"]);
  });

  test("pinned ones, the newest and the newest good one never go", () => {
    const own = [
      kept("newest", 1, { good: false, bytes: 900 }),
      kept("good", 5, { bytes: 900 }),
      kept("old", 10),
      kept("pinned", 90_000, { pinned: true }),
    ];
    expect(superfluous(own, { ...rules, count: 1 }, now)).toEqual(["old"]);
    expect(superfluous(own, { ...rules, count: 9 }, now)).toEqual(["old"]);
  });

  test("too old, too many bytes, damaged", () => {
    expect(superfluous([kept("a", 1), kept("b", 20_000)], rules, now)).toEqual(["b"]);
    expect(superfluous([kept("a", 1), kept("b", 60, { bytes: 2_000 })], rules, now)).toEqual(["b"]);
    expect(superfluous([kept("bad", 1, { bad: true, good: false }), kept("b", 60)], rules, now)).toEqual(["bad"]);
    expect(superfluous([], rules, now)).toEqual([]);
  });
});

describe("page map", () => {
  test("chunks are named by their content and come back; damage is found", () => {
    const random = seededRandom(3);
    const locations = Uint32Array.from({ length: chunkPages }, () => Math.floor(random() * 2 ** 32));
    const chunk = chunkOf(locations);
    expect(readChunk(chunk.name, chunk.body)).toEqual(locations);
    expect(chunkOf(new Uint32Array(7)).name).toBe(zeroChunk.name);
    expect(() => readChunk(chunk.name, null)).toThrow("missing");
    expect(() => readChunk(chunk.name, chunk.body.slice(0, 20))).toThrow("damaged");
    expect(() => readChunk(chunk.name.replace(/^./, "x"), chunk.body)).toThrow("damaged");
    const names = ["a", "a", "b", "a"];
    expect(namesOf(runsOf(names))).toEqual(names);
  });
});

test("an identity is found where it was added, and nowhere else; a full index takes no more", () => {
  const index = new IdentityIndex(100);
  const random = seededRandom(5);
  const identities = Array.from({ length: 300 }, () => Uint8Array.from({ length: 32 }, () => random() * 256));
  for (const [at, identity] of identities.entries()) index.add(identity, at + 1);
  expect(index.full).toBe(true);
  const found = identities.map((identity) => index.find(identity));
  expect(found.slice(0, 100)).toEqual(Array.from({ length: 100 }, (_, at) => at + 1));
  expect(found.every((location, at) => location === 0 || location === at + 1)).toBe(true);
});

test("the order of first touches comes back; damage is no order", () => {
  expect(unpackTouches(packTouches([3, 1, 9_999, 2]), 5_000)).toEqual([3, 1, 2]);
  expect(unpackTouches(null, 10)).toEqual([]);
  expect(unpackTouches(Uint8Array.of(1, 2, 3), 10)).toEqual([]);
  expect(unpackTouches(packTouches(Array(touchesMax + 5).fill(1)), 10)).toHaveLength(touchesMax);
});
