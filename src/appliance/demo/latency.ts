// SPDX-License-Identifier: Apache-2.0
/**
 * A histogram of latencies: constant memory, quantiles within 3.2 %, the maximum exact.
 *
 * Gets µs; gives quantiles as the upper edge of their bucket. Below 64 µs one bucket a µs, above it 32 buckets for each power
 * of two up to 2^36 µs; what is longer counts as that. The shape is HdrHistogram's.
 */

const bucketsPerPower = 32;
const exactBelow = 2 * bucketsPerPower;
const powersMax = 31;

export type LatencySummary = {
  readonly count: number;
  readonly p50Us: number;
  readonly p99Us: number;
  readonly p999Us: number;
  readonly maxUs: number;
};

export class LatencyHistogram {
  readonly #counts = new Float64Array(bucketsPerPower * (powersMax + 1));
  #count = 0;
  #maxUs = 0;

  add(latencyUs: number): void {
    this.#counts[bucketOf(latencyUs)]! += 1;
    this.#count += 1;
    if (latencyUs > this.#maxUs) this.#maxUs = latencyUs;
  }

  /** The value that `fraction` (0..1) of all latencies do not pass; 0 where there are none. */
  quantileUs(fraction: number): number {
    const wanted = Math.max(1, Math.ceil(fraction * this.#count));
    for (let bucket = 0, seen = 0; bucket < this.#counts.length; bucket += 1) {
      seen += this.#counts[bucket]!;
      if (seen >= wanted) return Math.min(upperEdgeUs(bucket), this.#maxUs);
    }
    return 0;
  }

  summary(): LatencySummary {
    return {
      count: this.#count,
      p50Us: this.quantileUs(0.5),
      p99Us: this.quantileUs(0.99),
      p999Us: this.quantileUs(0.999),
      maxUs: Math.round(this.#maxUs),
    };
  }
}

function bucketOf(latencyUs: number): number {
  const value = Math.max(0, Math.floor(latencyUs));
  if (value < exactBelow) return value;
  const power = Math.floor(Math.log2(value)) - 5; // 64..127 is power 1: 32 buckets of 2 µs
  return Math.min(power * bucketsPerPower + Math.floor(value / 2 ** power), bucketsPerPower * (powersMax + 1) - 1);
}

function upperEdgeUs(bucket: number): number {
  if (bucket < exactBelow) return bucket;
  const power = Math.floor(bucket / bucketsPerPower) - 1;
  return (bucket - power * bucketsPerPower + 1) * 2 ** power - 1;
}
