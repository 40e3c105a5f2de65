// SPDX-License-Identifier: Apache-2.0
/** The slope that outliers cannot bend, its interval, and its limits. */
import { expect, test } from "bun:test";
import fc from "fast-check";
import { seededRandom } from "#clock.ts";
import { pointsMax, theilSen } from "#monitor/health/theilSen.ts";

const times = Array.from({ length: 40 }, (_, index) => index);

test("a line has its slope exactly, even where a quarter of its points are wild", () => {
  const values = times.map((time) => 3 * time + 7);
  expect(theilSen(times, values)).toEqual({ slope: 3, slopeMin: 3, slopeMax: 3, points: 40 });
  const wild = values.map((value, index) => (index % 4 === 1 ? 1e6 : value));
  expect(theilSen(times, wild)!.slope).toBeCloseTo(3, 6);
});

test("noise without a trend has an interval around 0, nearly always", () => {
  let outside = 0;
  for (let seed = 1; seed <= 200; seed += 1) {
    const random = seededRandom(seed);
    const { slopeMin, slopeMax } = theilSen(
      times,
      times.map(() => random()),
    )!;
    if (slopeMin > 0 || slopeMax < 0) outside += 1;
  }
  // 99 % of them contain it; of 200, 2 are expected outside.
  expect(outside).toBeLessThanOrEqual(6);
});

test("moving and stretching the values moves nothing and stretches the slope", () => {
  fc.assert(
    fc.property(
      fc.array(fc.integer({ min: -1000, max: 1000 }), { minLength: 3, maxLength: 30 }),
      fc.integer({ min: 1, max: 9 }),
      (values, by) => {
        const at = values.map((_, index) => index);
        const plain = theilSen(at, values)!;
        const moved = theilSen(
          at,
          values.map((value) => by * value + 5),
        )!;
        expect(moved.slope).toBeCloseTo(by * plain.slope, 6);
        expect(moved.slopeMin <= moved.slope && moved.slope <= moved.slopeMax).toBe(true);
      },
    ),
  );
});

test("too few points have no slope, too many count from the end", () => {
  expect(theilSen([1, 2], [1, 2])).toBeNull();
  expect(theilSen([1, 1, 1], [1, 2, 3])).toBeNull();
  const many = Array.from({ length: pointsMax + 50 }, (_, index) => index);
  expect(
    theilSen(
      many,
      many.map((at) => (at < 50 ? -9 * at : at)),
    ),
  ).toMatchObject({ slope: 1, points: pointsMax });
});
