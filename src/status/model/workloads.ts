// SPDX-License-Identifier: Apache-2.0
/**
 * Workloads as they are shown: what the supervisor told of each, beside what the record counts for it. Pure.
 */
import { type MetricSample, metricDefinition } from "#metrics.ts";
import type { ArrivingTold, Told, WorkloadTold } from "../told.ts";
import { stopBounds } from "./issues.ts";
import { type FaultLine, type ReadModel, type Tally, verdictOf } from "./readModel.ts";

export type WorkloadLine = {
  readonly told: WorkloadTold;
  readonly faults: number;
  readonly survived: number;
  readonly cut: number;
  readonly stopUsMedian: number | null;
  readonly outcomes: ReadonlyMap<string, number>;
};

export type DayFacts = {
  readonly faults: number;
  readonly survived: number;
  readonly cut: number;
  readonly stopUsMedian: number | null;
  readonly stopUsMax: number | null;
};

export const workloadLines = (told: Told, record: ReadModel): WorkloadLine[] =>
  told.workloads.map((workload) => lineOf(workload, record.tallies.get(workload.name)));

/** How much of a restored guest's memory is there, 0..1. */
export function arrivedShare(told: ArrivingTold): number {
  const { contentBytes, prefetchedBytes, demandedBytes, backgroundBytes } = told;
  if (contentBytes === 0) return 1;
  return Math.min(1, (prefetchedBytes + demandedBytes + backgroundBytes) / contentBytes);
}

export function dayOf(faults: readonly FaultLine[]): DayFacts {
  const stops = faults
    .flatMap((fault) => fault.trials.flatMap(({ stopUs }) => (stopUs ? [stopUs] : [])))
    .sort((a, b) => a - b);
  const ends = faults.map(verdictOf);
  return {
    faults: faults.length,
    survived: ends.filter((end) => end === "clean" || end === "degraded").length,
    cut: faults.filter((fault) => fault.trials.some((trial) => trial.cut !== null)).length,
    stopUsMedian: stops[Math.floor(stops.length / 2)] ?? null,
    stopUsMax: stops.at(-1) ?? null,
  };
}

function lineOf(told: WorkloadTold, tally: Readonly<Tally> | undefined): WorkloadLine {
  if (tally === undefined) return { told, faults: 0, survived: 0, cut: 0, stopUsMedian: null, outcomes: new Map() };
  const sum = (values: Iterable<number>): number => [...values].reduce((total, value) => total + value, 0);
  const survived = [...tally.outcomes].filter(([key]) => !key.endsWith(" failed")).map(([, count]) => count);
  return {
    told,
    faults: sum(tally.faults.values()),
    survived: sum(survived),
    cut: tally.cut,
    stopUsMedian: medianOf(tally),
    outcomes: tally.outcomes,
  };
}

/** From the histogram: the upper bound of the bucket in which the middle lies, or the longest where that is less. */
function medianOf({ stopBuckets, stopCount, stopUsMax }: Readonly<Tally>): number | null {
  if (stopCount === 0) return null;
  const index = stopBuckets.findIndex((count) => count * 2 >= stopCount);
  const bound = index < 0 ? stopUsMax : stopBounds[index]! * 1e6;
  return Math.min(bound, stopUsMax);
}

/** Microseconds that this share of a histogram's times took at most; null without any, or where it is beyond its bounds. */
export function timeWithin(sample: MetricSample | null, share: number): number | null {
  if (sample?.kind !== "histogram" || sample.count === 0) return null;
  const bound = metricDefinition(sample.name).bounds?.[sample.buckets.findIndex((n) => n >= share * sample.count)];
  return bound === undefined ? null : Math.round(bound * 1e6);
}

/** Whoever is not well first, then whoever faults most; the rest in their order. */
export const worstFirst = (lines: readonly WorkloadLine[]): readonly WorkloadLine[] =>
  lines.toSorted((a, b) => Number(isWell(a)) - Number(isWell(b)) || b.faults - a.faults);

const isWell = ({ told }: WorkloadLine): boolean =>
  (told.state === "guarded" || told.state === "up") && told.protected && told.arriving === null;
