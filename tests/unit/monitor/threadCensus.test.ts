// SPDX-License-Identifier: Apache-2.0
/**
 * Which threads a program has lost before a fault. Gets made-up listings in time; gives the loss.
 */
import { expect, test } from "bun:test";
import { ThreadCensus } from "#monitor/threadCensus.ts";

function lostAfter(looks: readonly (readonly [atMs: number, ...tids: number[]])[], nowMs: number): number {
  let [atMs, tids]: [number, readonly number[]] = [0, []];
  const census = new ThreadCensus(() => tids, { monotonicNs: () => atMs * 1e6 });
  for (const [lookMs, ...threads] of looks) {
    [atMs, tids] = [lookMs, threads];
    census.list();
  }
  atMs = nowMs;
  return census.lost();
}

test("threads that end together after a calm time are lost, also where two looks see it", () => {
  expect(
    lostAfter(
      [
        [0, 1, 2, 3, 4],
        [4_000, 1],
      ],
      4_100,
    ),
  ).toBe(3);
  expect(
    lostAfter(
      [
        [0, 1, 2, 3, 4],
        [4_000, 1, 2, 4],
        [4_250, 1],
      ],
      4_300,
    ),
  ).toBe(3);
});

test("a loss is of no account later, or where nothing is gone", () => {
  expect(
    lostAfter(
      [
        [0, 1, 2],
        [4_000, 1],
      ],
      9_001,
    ),
  ).toBe(0);
  expect(
    lostAfter(
      [
        [0, 1, 2],
        [4_000, 1, 2, 3],
      ],
      4_100,
    ),
  ).toBe(0);
  expect(lostAfter([], 0)).toBe(0);
});

test("threads that come and go all the time are not lost", () => {
  const looks = Array.from({ length: 40 }, (_, look) => [look * 250, 1, 100 + look] as const);
  expect(lostAfter(looks, 10_000)).toBe(0);
});
