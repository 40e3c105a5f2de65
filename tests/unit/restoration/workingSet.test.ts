// SPDX-License-Identifier: Apache-2.0
/** What is brought early the next time: what was wanted this time, in the order in which that is known. */
import { expect, test } from "bun:test";
import { workingSet } from "#restoration/workingSet.ts";

const limit = 6;

test("what was recorded stays where it is still wanted, in its order; touches follow, then what was mapped besides", () => {
  expect(workingSet([7, 3, 9], [12, 3], [2, 3, 7, 12], limit)).toEqual([7, 3, 12, 2]);
});

test("without page tables the record stays, until it is full: then it is made anew", () => {
  expect(workingSet([7, 3, 9], [12, 3], null, limit)).toEqual([7, 3, 9, 12]);
  expect(workingSet([1, 2, 3, 4], [5, 6, 7], null, limit)).toEqual([5, 6, 7]);
});

test("it has a limit", () => {
  expect(workingSet([1, 2], [3, 4], [1, 2, 3, 4, 5, 6, 7, 8], limit)).toEqual([1, 2, 3, 4, 5, 6]);
});
