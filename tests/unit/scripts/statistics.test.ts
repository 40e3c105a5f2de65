// SPDX-License-Identifier: Apache-2.0
/**
 * The figures behind the benchmarks: quantiles against known values, intervals against what they promise.
 */
import { expect, test } from "bun:test";
import { seededRandom } from "#clock.ts";
import { drift, median, medianInterval, quantile } from "#scripts/bench/statistics.ts";

test("quantiles lie between the values around them", () => {
  expect(median([3, 1, 2])).toBe(2);
  expect(median([4, 1, 3, 2])).toBe(2.5);
  expect(quantile([10], 0.99)).toBe(10);
  expect(quantile([0, 10], 0.99)).toBeCloseTo(9.9);
  expect(quantile([5, 1, 9], 0)).toBe(1);
  expect(quantile([5, 1, 9], 1)).toBe(9);
});

test("a 95 % interval holds the true median in about 95 of 100 samples, and repeats with its seed", () => {
  const random = seededRandom(5);
  let held = 0;
  for (let sample = 0; sample < 60; sample += 1) {
    const values = Array.from({ length: 25 }, () => 1 + random());
    const { low, high } = medianInterval(values, sample);
    expect(low).toBeLessThanOrEqual(median(values));
    expect(high).toBeGreaterThanOrEqual(median(values));
    if (low <= 1.5 && 1.5 <= high) held += 1;
  }
  expect(held).toBeGreaterThanOrEqual(51);
  const values = [1, 5, 2, 8, 3];
  expect(medianInterval(values, 3)).toEqual(medianInterval(values, 3));
});

test("drift is the largest change against the median", () => {
  expect(drift([10, 10, 10])).toBe(0);
  expect(drift([8, 10, 13])).toBeCloseTo(0.3);
});
