// SPDX-License-Identifier: Apache-2.0
/**
 * All metrics of this process in one place. Gets counts, values and times as they happen, and sources that are asked at each
 * collection; gives samples in the order of the catalogue, for `/metrics` and for telemetry.
 *
 * A value that is not known is left out: it is not 0. Limit: `seriesMax` series, more are not kept and are counted.
 */
import { assert } from "#errors.ts";
import { type MetricName, type MetricSample, type MetricSource, metricDefinition, metricNames } from "#metrics.ts";

export const seriesMax = 8_192;

type Times = { readonly buckets: readonly number[]; readonly count: number; readonly sum: number };
type Series = {
  readonly name: MetricName;
  readonly labels: readonly string[];
  value: number;
  buckets: number[] | null;
  sum: number;
};

export class MetricRegistry {
  readonly #series = new Map<string, Series>();
  readonly #sources = new Set<MetricSource>();
  #refused = 0;

  /** Series that were not kept for want of room. */
  get refused(): number {
    return this.#refused;
  }

  /** Adds to a counter. */
  add(name: MetricName, labels: readonly string[], amount = 1): void {
    assert(metricDefinition(name).kind === "counter" && amount >= 0, "only counters are added to", { name, amount });
    const series = this.#seriesOf(name, labels);
    if (series !== null) series.value += amount;
  }

  /** Sets a gauge. */
  set(name: MetricName, labels: readonly string[], value: number): void {
    assert(metricDefinition(name).kind === "gauge", "only gauges are set", { name });
    const series = this.#seriesOf(name, labels);
    if (series !== null) series.value = value;
  }

  /** Puts one time into a histogram. */
  observe(name: MetricName, labels: readonly string[], seconds: number): void {
    const { bounds } = metricDefinition(name);
    assert(bounds !== undefined, "only histograms observe", { name });
    const series = this.#seriesOf(name, labels);
    if (series === null) return;
    series.value += 1;
    series.sum += seconds;
    series.buckets ??= bounds.map(() => 0);
    for (const [index, bound] of bounds.entries()) if (seconds <= bound) series.buckets[index]! += 1;
  }

  /** Puts times into a histogram that were counted elsewhere; `buckets` are cumulative. */
  merge(name: MetricName, labels: readonly string[], times: Times): void {
    const { bounds } = metricDefinition(name);
    assert(bounds?.length === times.buckets.length, "a histogram has the bounds of the catalogue", { name });
    const series = this.#seriesOf(name, labels);
    if (series === null) return;
    series.value += times.count;
    series.sum += times.sum;
    series.buckets = times.buckets.map((count, index) => count + (series.buckets?.[index] ?? 0));
  }

  /** Asks `source` at each collection, until disposed of. */
  source(source: MetricSource): Disposable {
    this.#sources.add(source);
    return { [Symbol.dispose]: () => void this.#sources.delete(source) };
  }

  /** All samples of now, grouped by metric. */
  readonly collect: MetricSource = () => {
    const byName = new Map<MetricName, MetricSample[]>(metricNames.map((name) => [name, []]));
    for (const series of this.#series.values()) byName.get(series.name)!.push(sampleOfSeries(series));
    for (const source of this.#sources) {
      for (const sample of source()) byName.get(sample.name)!.push(sample);
    }
    return [...byName.values()].flat();
  };

  #seriesOf(name: MetricName, labels: readonly string[]): Series | null {
    const wanted = metricDefinition(name).labels.length;
    assert(labels.length === wanted, "a sample has the labels of the catalogue", {
      name,
      wanted,
      given: labels.length,
    });
    const key = JSON.stringify([name, ...labels]);
    const known = this.#series.get(key);
    if (known !== undefined) return known;
    if (this.#series.size >= seriesMax) {
      this.#refused += 1;
      return null;
    }
    const series: Series = { name, labels: [...labels], value: 0, buckets: null, sum: 0 };
    this.#series.set(key, series);
    return series;
  }
}

function sampleOfSeries({ name, labels, value, buckets, sum }: Series): MetricSample {
  return buckets === null
    ? { kind: "value", name, labels, value }
    : { kind: "histogram", name, labels, buckets: [...buckets], count: value, sum };
}
