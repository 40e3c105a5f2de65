// SPDX-License-Identifier: Apache-2.0
/**
 * The latency histogram against sorting all values.
 */
import { expect, test } from "bun:test";
import fc from "fast-check";
import { LatencyHistogram } from "#appliance/demo/latency.ts";

test("quantiles are within 3.2 % above the exact ones, the maximum is exact", () => {
  const latency = fc.oneof(fc.integer({ min: 0, max: 500 }), fc.integer({ min: 0, max: 2 ** 33 }));
  fc.assert(
    fc.property(fc.array(latency, { minLength: 1, maxLength: 300 }), fc.double({ min: 0, max: 1 }), (all, raw) => {
      const fraction = Number.isNaN(raw) ? 0.5 : raw;
      const histogram = new LatencyHistogram();
      for (const value of all) histogram.add(value);
      const sorted = [...all].sort((a, b) => a - b);
      const exact = sorted[Math.max(1, Math.ceil(fraction * all.length)) - 1]!;
      const found = histogram.quantileUs(fraction);
      expect(found).toBeGreaterThanOrEqual(exact);
      expect(found).toBeLessThanOrEqual(exact * 1.032 + 1);
      expect(histogram.summary().maxUs).toBe(sorted.at(-1)!);
      expect(histogram.summary().count).toBe(all.length);
    }),
  );
});

test("nothing measured gives zeros", () => {
  expect(new LatencyHistogram().summary()).toEqual({ count: 0, p50Us: 0, p99Us: 0, p999Us: 0, maxUs: 0 });
});
