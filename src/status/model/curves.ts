// SPDX-License-Identifier: Apache-2.0
/**
 * Series of the history, as charts need them. Gets a state directory, a series and a span; gives points, oldest first.
 */
import {
  type CurvePoint,
  type Resolution,
  readCurve,
  readSeriesNames,
  type SeriesName,
} from "#storage/cursorReader.ts";

const hourMs = 3_600_000;
export const spanMs = { "1h": hourMs, "24h": 24 * hourMs, "7d": 7 * 24 * hourMs, "1y": 365 * 24 * hourMs } as const;
export type Span = keyof typeof spanMs;

/** Enough for a wide screen, and for the table behind. */
const pointsMax = 1_500;
const seriesMax = 200;

export type Curve = {
  readonly series: string;
  readonly workload: string;
  readonly unit: string;
  readonly resolution: Resolution;
  readonly points: readonly CurvePoint[];
};

/** @throws StorageError */
export function readSpan(
  directory: string,
  series: { name: string; workload: string },
  span: Span,
  nowMs: number,
): Curve {
  const { resolution, points } = readCurve(directory, series, {
    fromMs: nowMs - spanMs[span],
    toMs: nowMs + 1,
    limit: pointsMax,
  });
  const unit =
    seriesOf(directory).find((each) => each.name === series.name && each.workload === series.workload)?.unit ?? "";
  return { series: series.name, workload: series.workload, unit, resolution, points };
}

/** @throws StorageError */
export const seriesOf = (directory: string): SeriesName[] => readSeriesNames(directory).slice(0, seriesMax);
