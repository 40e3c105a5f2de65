// SPDX-License-Identifier: Apache-2.0
/**
 * A flight record as a picture for a terminal: one row a curve, sixty columns for sixty seconds, the fault's column marked.
 * Gets the record; gives lines of text. Pure.
 *
 *     processors      ▁▁▁▂▂▂▂▁▁▁▁▁▂▂▂▂▁▁▁▁▁▁▁█▁▁      0 … 1.2     now 0.1
 *                                            ^ fault
 *
 * A column holds the greatest value of its second; a gap is a dot. Each curve has its own scale, from 0 (or, where its values
 * lie close together, from the least) to its greatest.
 */
import type { FlightCurve, FlightRecord } from "#health.ts";

const bars = "▁▂▃▄▅▆▇█";
export const pictureColumns = 60;
const nameWidth = 16;
const marksShown = 12;

export function flightPicture(record: FlightRecord): string[] {
  const { times, curves, faultMs, marks } = record;
  if (times.length === 0 || curves.length === 0) return [];
  const [fromMs, toMs] = [times[0]!, times.at(-1)!];
  const column = (atMs: number): number =>
    Math.max(0, Math.min(pictureColumns - 1, Math.floor(((atMs - fromMs) / (toMs - fromMs + 1)) * pictureColumns)));
  const at = column(faultMs);
  const pad = " ".repeat(nameWidth + at);
  return [
    `The minute around it (${clockText(fromMs)} to ${clockText(toMs)} UTC):`,
    ...curves.map((curve) => curveLine(curve, times, column)),
    `${pad}^ ${record.fault === "" ? "fault" : `fault ${record.fault}`}`,
    ...marks
      .slice(-marksShown)
      .map(({ atMs, text }) => `${" ".repeat(nameWidth)}${secondsText(atMs - faultMs)}  ${text}`),
  ];
}

/** One curve as bars, for any number of columns. Values that are not known are dots. */
export function sparkline(values: readonly (number | null)[], least: number, most: number): string {
  const span = most - least;
  return values
    .map((value) => {
      if (value === null) return "·";
      const share = span <= 0 ? 0 : (value - least) / span;
      return bars[Math.max(0, Math.min(bars.length - 1, Math.floor(share * bars.length)))]!;
    })
    .join("");
}

function curveLine(
  { name, unit, values }: FlightCurve,
  times: readonly number[],
  column: (atMs: number) => number,
): string {
  const columns = new Array<number | null>(pictureColumns).fill(null);
  for (const [index, value] of values.entries()) {
    const place = column(times[index]!);
    if (value !== null) columns[place] = Math.max(columns[place] ?? Number.NEGATIVE_INFINITY, value);
  }
  const known = columns.filter((value) => value !== null);
  const [least, most] = known.length === 0 ? [0, 0] : [Math.min(...known), Math.max(...known)];
  // Close together: memory that grows by a percent is to be seen.
  const floor = least > most * 0.8 ? least : Math.min(0, least);
  const range = `${amount(floor, unit)} … ${amount(most, unit)}`;
  return `${name.slice(0, nameWidth - 1).padEnd(nameWidth)}${sparkline(columns, floor, most)}  ${range}`;
}

/** A number of its unit, short: `12.0 MiB`, `3.4 k/s`, `25 %`. */
export function amount(value: number, unit: FlightCurve["unit"]): string {
  if (unit === "/") return `${(100 * value).toFixed(0)} %`;
  if (unit === "B") return `${short(value, 1024, ["B", "KiB", "MiB", "GiB", "TiB"])}`;
  const text = short(value, 1000, ["", "k", "M", "G", "T"]);
  return unit === "1/s" ? `${text.trim()}/s` : unit === "s" ? `${text.trim()} s` : text.trim();
}

function short(value: number, step: number, prefixes: readonly string[]): string {
  let [scaled, index] = [value, 0];
  for (; Math.abs(scaled) >= step && index < prefixes.length - 1; index += 1) scaled /= step;
  const digits = Math.abs(scaled) >= 100 || Number.isInteger(scaled) ? 0 : Math.abs(scaled) >= 10 ? 1 : 2;
  return `${scaled.toFixed(digits)} ${prefixes[index]}`.trimEnd();
}

const clockText = (atMs: number): string => new Date(atMs).toISOString().slice(11, 19);
const secondsText = (ms: number): string => `${ms < 0 ? "-" : "+"}${(Math.abs(ms) / 1000).toFixed(1)} s`.padStart(9);
