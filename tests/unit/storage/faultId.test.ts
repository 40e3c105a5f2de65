// SPDX-License-Identifier: Apache-2.0
/**
 * Ids rise strictly whatever the clock does, and trials split back.
 */
import { expect, test } from "bun:test";
import fc from "fast-check";
import { type Clock, seededRandom } from "#clock.ts";
import type { TrialId } from "#fault.ts";
import { faultIdPattern, faultIds, splitTrial, trialId } from "#storage/faultId.ts";

test("ids rise strictly, also when the clock stands still or goes back", () => {
  fc.assert(
    fc.property(fc.array(fc.integer({ min: -5000, max: 5000 }), { maxLength: 200 }), fc.nat(), (steps, seed) => {
      let nowMs = 1_738_333_353_123;
      const clock = { wallMs: () => nowMs } as Clock;
      const nextId = faultIds(clock, seededRandom(seed));
      let last = "";
      for (const step of steps) {
        nowMs += step;
        const id = nextId();
        expect(id).toMatch(faultIdPattern);
        expect(id > last).toBe(true);
        last = id;
      }
    }),
  );
});

test("an id tells its time in UTC", () => {
  const clock = { wallMs: () => Date.UTC(2025, 0, 31, 14, 22, 33, 500) } as Clock;
  expect(faultIds(clock, () => 0)()).toMatch(/^250131-142233-/);
});

test("a trial splits into its fault and number, other texts do not", () => {
  const fault = faultIds({ wallMs: () => 0 } as Clock, () => 0)();
  expect(splitTrial(trialId(fault, 3))).toEqual({ fault, number: 3 });
  for (const text of ["", ".1", "x", "x.", "x.0", "x.y"]) expect(splitTrial(text as TrialId)).toBeNull();
});
