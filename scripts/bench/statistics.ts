// SPDX-License-Identifier: Apache-2.0
/**
 * Medians, quantiles and their uncertainty. Gets numbers (and a seed where chance is needed); gives numbers. Pure.
 *
 * Intervals are percentile bootstrap intervals of the median, 95 %, from `resamples` resamples of a seeded sequence.
 */
import { seededRandom } from "#clock.ts";
import { assert } from "#errors.ts";

const resamples = 2_000;

export type Interval = { readonly low: number; readonly high: number };

/** The value that `fraction` (0..1) of `values` do not pass, between two values by their distance. */
export function quantile(values: readonly number[], fraction: number): number {
  assert(values.length > 0, "a quantile of nothing");
  const sorted = [...values].sort((a, b) => a - b);
  const at = fraction * (sorted.length - 1);
  const below = sorted[Math.floor(at)]!;
  return below + (sorted[Math.ceil(at)]! - below) * (at - Math.floor(at));
}

export const median = (values: readonly number[]): number => quantile(values, 0.5);

/** Where the median of many more such samples would lie, with 95 %. */
export function medianInterval(values: readonly number[], seed: number): Interval {
  const random = seededRandom(seed);
  const medians = Array.from({ length: resamples }, () =>
    median(Array.from(values, () => values[Math.floor(random() * values.length)]!)),
  );
  return { low: quantile(medians, 0.025), high: quantile(medians, 0.975) };
}

/** Largest change of a control against its median, as a fraction: how unsteady the machine was. */
export const drift = (control: readonly number[]): number =>
  Math.max(...control.map((value) => Math.abs(value / median(control) - 1)));

const z95 = 1.959964;

/** Wilson's score interval, 95 %, of a share of which `count` in `total` were seen; 0 to 1 where nothing was. */
export function wilsonInterval(count: number, total: number): Interval {
  if (total === 0) return { low: 0, high: 1 };
  const share = count / total;
  const spread = z95 * Math.sqrt((share * (1 - share)) / total + z95 ** 2 / (4 * total ** 2));
  const middle = share + z95 ** 2 / (2 * total);
  const scale = 1 + z95 ** 2 / total;
  return { low: Math.max(0, (middle - spread) / scale), high: Math.min(1, (middle + spread) / scale) };
}
