// SPDX-License-Identifier: Apache-2.0
/**
 * A slope that outliers cannot bend: the median of the slopes of all pairs of points, with its confidence interval. Pure.
 *
 * Up to 29 % of the points may be wild. Cost: n²/2 slopes, so `pointsMax` bounds it. Source: Theil 1950; Sen, JASA 63
 * (1968), the interval by Kendall's variance, n (n-1) (2n+5) / 18.
 */

export const pointsMax = 128;
/** Half-width of the interval in standard deviations: 99 %. */
const deviations = 2.576;

export type Slope = {
  readonly slope: number;
  readonly slopeMin: number;
  readonly slopeMax: number;
  readonly points: number;
};

/** Slope of `values` over `times`; null for fewer than 3 points or where all times are the same. The newest points count. */
export function theilSen(times: readonly number[], values: readonly number[]): Slope | null {
  const from = Math.max(0, times.length - pointsMax);
  const points = times.length - from;
  if (points < 3) return null;
  const slopes: number[] = [];
  for (let i = from; i < times.length; i += 1) {
    for (let j = i + 1; j < times.length; j += 1) {
      const width = times[j]! - times[i]!;
      if (width !== 0) slopes.push((values[j]! - values[i]!) / width);
    }
  }
  if (slopes.length === 0) return null;
  const sorted = Float64Array.from(slopes).sort();
  const half = (deviations * Math.sqrt((points * (points - 1) * (2 * points + 5)) / 18)) / 2;
  const at = (index: number): number => sorted[Math.min(sorted.length - 1, Math.max(0, Math.round(index)))]!;
  const middle = (sorted.length - 1) / 2;
  const slope = (sorted[Math.floor(middle)]! + sorted[Math.ceil(middle)]!) / 2;
  return { slope, slopeMin: at(middle - half), slopeMax: at(middle + half), points };
}
