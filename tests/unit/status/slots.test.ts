// SPDX-License-Identifier: Apache-2.0
/**
 * Slots and update on the system page: what is under way, and since when, in words.
 */
import { expect, test } from "bun:test";
import type { View } from "#status/page.ts";
import type { UpdateTold } from "#status/told.ts";
import { slotsPart } from "#status/view/slots.ts";

const nowMs = Date.UTC(2026, 10, 23, 16);
const update: UpdateTold = {
  ...{ slot: "B", version: "2.0", testKey: false, phase: "trial", says: "version 2.0 is on trial", percent: null },
  ...{ slots: [], sinceMs: nowMs - 60_000, refused: [], lastRollback: null, lock: null },
};
const wordsOf = (value: UpdateTold): string =>
  slotsPart({ told: { update: { known: true, value } }, nowMs } as View).text;

test("an update says since when", () => {
  expect(wordsOf(update)).toContain("version 2.0 is on trial");
  expect(wordsOf(update)).not.toContain("[object");
  expect(wordsOf(update)).toMatch(/\(.*min.*\)/);
  expect(wordsOf({ ...update, sinceMs: null })).not.toContain("(");
});
