// SPDX-License-Identifier: Apache-2.0
/** States of pages, as a plain array would keep them. */
import { expect, test } from "bun:test";
import { seededRandom } from "#clock.ts";
import { PageStates } from "#restoration/pageStates.ts";

test("a page has the number that was put last, and 0 before", () => {
  const seed = 7;
  const random = seededRandom(seed);
  const [pages, states] = [4_000, new PageStates()];
  const plain = new Uint8Array(pages);
  for (let step = 0; step < 3_000; step += 1) {
    const [page, state] = [Math.floor(random() * pages), Math.floor(random() * 256)];
    states.put(page, state);
    plain[page] = state;
  }
  expect(Array.from({ length: pages }, (_, page) => states.at(page))).toEqual([...plain]);
  // Far beyond, where no chunk is.
  expect(states.at(2 ** 32 - 1)).toBe(0);
});
