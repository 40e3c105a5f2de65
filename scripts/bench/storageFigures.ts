// SPDX-License-Identifier: Apache-2.0
/**
 * The figures of scripts/bench/storage.ts and how they are shown: each with its unit, what it is to be, and whether it is.
 */
import { table } from "#cli/table.ts";
import { rounded } from "./benchReport.ts";
import { median, medianInterval, quantile } from "./statistics.ts";

export type Figure = {
  readonly value: number;
  readonly unit: "ratio" | "us" | "ms" | "rows/s" | "rows";
  readonly atLeast?: number;
  readonly atMost?: number;
  readonly met?: boolean;
  /** Interval of the median over rounds, 95 %. */
  readonly low?: number;
  readonly high?: number;
  /** Beside it: other quantiles, the control, why. */
  readonly more?: Readonly<Record<string, number | string>>;
};
type Target = Pick<Figure, "atLeast" | "atMost">;

/** The median of one ratio for each round. */
export function ratioOf(values: readonly number[], seed: number, target: Target = {}): Figure {
  const { low, high } = medianInterval(values, seed);
  const value = median(values);
  return {
    ...judged(value, target),
    unit: "ratio",
    value: rounded(value, 3),
    low: rounded(low, 3),
    high: rounded(high, 3),
  };
}

/** The 99th of 100 times, with the bare call that took turns with them. */
export function p99Of(times: readonly number[], bare: readonly number[], target: Target = {}): Figure {
  const value = quantile(times, 0.99);
  const beside = bare.length === 0 ? {} : { bareP50: p(bare, 0.5), bareP99: p(bare, 0.99) };
  const more = { count: times.length, p50: p(times, 0.5), p999: p(times, 0.999), ...beside };
  return { ...judged(value, target), unit: "us", value: rounded(value, 2), more };
}

export function plain(value: number, unit: Figure["unit"], target: Target = {}, more: Figure["more"] = {}): Figure {
  return { ...judged(value, target), unit, value: rounded(value, unit === "ratio" ? 3 : 1), more };
}

export function tableOf(figures: Readonly<Record<string, Figure>>): string {
  const rows = Object.entries(figures).map(([name, figure]) => [
    `  ${name}`,
    `${figure.value}${figure.unit === "ratio" ? "" : ` ${figure.unit}`}`,
    figure.low === undefined ? "" : `${figure.low} to ${figure.high}`,
    wanted(figure),
    figure.met === undefined ? "" : figure.met ? "yes" : "NO",
    Object.entries(figure.more ?? {})
      .map(([key, value]) => `${key} ${value}`)
      .join(", "),
  ]);
  return table(["  FIGURE", "VALUE", "95 %", "TARGET", "MET", ""], rows);
}

const p = (values: readonly number[], fraction: number): number => rounded(quantile(values, fraction), 2);

const wanted = ({ atLeast, atMost }: Figure): string =>
  atLeast !== undefined ? `>= ${atLeast}` : atMost !== undefined ? `<= ${atMost}` : "";

function judged(value: number, target: Target): Pick<Figure, "atLeast" | "atMost" | "met"> {
  const { atLeast = Number.NEGATIVE_INFINITY, atMost = Number.POSITIVE_INFINITY } = target;
  if (Object.keys(target).length === 0) return {};
  return { ...target, met: value >= atLeast && value <= atMost };
}
