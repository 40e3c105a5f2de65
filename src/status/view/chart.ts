// SPDX-License-Identifier: Apache-2.0
/**
 * Charts as SVG, drawn here, with a sentence above and the same numbers as a table below. Gets points; gives HTML.
 *
 * Kinds differ by pattern as well as by colour; gaps stay gaps; both axes are labelled. No script is needed.
 */
import type { FaultLine } from "../model/readModel.ts";
import { verdictOf } from "../model/readModel.ts";
import { iso, plural, quantity } from "./format.ts";
import { type Html, html, nothing } from "./html.ts";

/** Units of the drawing; it is stretched to the room there is, so text stands beside it, not in it. */
const width = 720;
const height = 120;
/** A point for every eight units: more would weigh and not be seen. */
const pointsMax = 90;
const rowsMax = 16;

export type FaultBar = { readonly fromMs: number; survived: number; degraded: number; failed: number; other: number };

/** Faults in equal parts of a span, oldest first. */
export function faultBars(faults: readonly FaultLine[], toMs: number, spanMs: number, parts: number): FaultBar[] {
  const partMs = spanMs / parts;
  const fromMs = toMs - spanMs;
  const bars = Array.from({ length: parts }, (_, index) => ({
    fromMs: fromMs + index * partMs,
    survived: 0,
    degraded: 0,
    failed: 0,
    other: 0,
  }));
  for (const fault of faults) {
    const bar = bars[Math.floor((fault.atMs - fromMs) / partMs)];
    if (bar === undefined) continue;
    const end = verdictOf(fault);
    bar[end === "clean" ? "survived" : end === "degraded" ? "degraded" : end === "failed" ? "failed" : "other"] += 1;
  }
  return bars;
}

const kinds = ["survived", "degraded", "failed", "other"] as const;

export function faultChart(bars: readonly FaultBar[], spanWords: string): Html {
  const total = (bar: FaultBar): number => bar.survived + bar.degraded + bar.failed + bar.other;
  const sum = bars.reduce((count, bar) => count + total(bar), 0);
  const most = Math.max(...bars.map(total));
  const scale = Math.max(2, niceMost(most));
  const step = width / bars.length;
  const drawn = bars.map((bar, index) => {
    let y = height;
    return kinds.map((kind) => {
      if (bar[kind] === 0) return nothing;
      const size = Math.max(2, (bar[kind] / scale) * height);
      y -= size;
      return html`<rect class="${kind}" x="${(index * step + 1).toFixed(1)}" y="${y.toFixed(1)}" width="${Math.max(1, step - 2).toFixed(1)}" height="${size.toFixed(1)}"/>`;
    });
  });
  const failed = bars.reduce((count, bar) => count + bar.failed, 0);
  const words =
    sum === 0
      ? `No faults in the ${spanWords}.`
      : `${plural(sum, "fault")} in the ${spanWords}, ${failed === 0 ? "none failed" : `${failed} failed`}; at most ${most} in one bar.`;
  const partMs = bars.length > 1 ? bars[1]!.fromMs - bars[0]!.fromMs : 0;
  const rows = bars.filter((bar) => total(bar) > 0);
  const table = html`<details><summary>The numbers as a table</summary><table class="list"><thead><tr><th scope="col">From</th>${kinds.map((kind) => html`<th scope="col" class="number">${kind}</th>`)}</tr></thead><tbody>${
    rows.length === 0
      ? html`<tr><td colspan="5">nothing in this span</td></tr>`
      : rows.map(
          (bar) =>
            html`<tr><th scope="row">${minute(bar.fromMs)}</th>${kinds.map((kind) => html`<td class="number">${bar[kind]}</td>`)}</tr>`,
        )
  }</tbody></table></details>`;
  return html`<figure class="chart"><figcaption>${words}</figcaption>${plot(words, html`<defs>${patterns}</defs>${drawn}`, { most: scale, unit: "faults", fromMs: bars[0]?.fromMs ?? 0, spanMs: partMs * bars.length })}<ul class="legend">${kinds.map((kind) => html`<li><svg width="12" height="12" aria-hidden="true" focusable="false"><rect class="${kind}" width="12" height="12"/></svg>${kind}</li>`)}</ul>${table}</figure>`;
}

export type CurvePoint = {
  readonly atMs: number;
  readonly mean: number;
  readonly least: number;
  readonly greatest: number;
};

/** One series over time: the mean as a line, least to greatest as a band. A gap of three steps stays a gap. */
export function lineChart(
  name: string,
  unit: string,
  all: readonly CurvePoint[],
  span: { readonly fromMs: number; readonly toMs: number },
): Html {
  const spanMs = span.toMs - span.fromMs;
  const points = thin(all, pointsMax);
  const greatest = Math.max(0, ...points.map((point) => point.greatest));
  const step = unit === "B" ? 1024 ** Math.floor(Math.log2(Math.max(1, greatest)) / 10) : 1;
  const most = step * niceMost(greatest / step);
  const x = (atMs: number): string => (((atMs - span.fromMs) / spanMs) * width).toFixed(0);
  const y = (value: number): string => (height - (Math.max(0, value) / most) * height).toFixed(1);
  const pieces = unbroken(points);
  const line = pieces.map((piece) => pathOf(piece.map((point) => `${x(point.atMs)} ${y(point.mean)}`)));
  const band = pieces.map((piece) => {
    const there = piece.map((point) => `${x(point.atMs)} ${y(point.greatest)}`);
    const back = piece.toReversed().map((point) => `${x(point.atMs)} ${y(point.least)}`);
    return `${pathOf([...there, ...back])}Z`;
  });
  const words = summary(name, unit, points, all.length);
  const shapes = html`<path class="band" d="${band.join("")}"/><path class="curve" d="${line.join("")}"/>`;
  return html`<figure class="chart"><figcaption>${words}</figcaption>${plot(words, shapes, { most, unit, fromMs: span.fromMs, spanMs })}${
    points.length === 0 ? nothing : numbers(thin(points, rowsMax), unit)
  }</figure>`;
}

function summary(name: string, unit: string, points: readonly CurvePoint[], count: number): string {
  const last = points.at(-1);
  if (last === undefined) return `${name}: nothing was recorded in this span.`;
  const shown = (value: number): string => quantity(value, unit);
  const least = shown(Math.min(...points.map((point) => point.least)));
  const greatest = shown(Math.max(...points.map((point) => point.greatest)));
  return `${name}: ${shown(last.mean)} at the end, ${least} to ${greatest} over ${plural(count, "point")}.`;
}

function numbers(points: readonly CurvePoint[], unit: string): Html {
  const rows = points.map(
    ({ atMs, mean, least, greatest }) =>
      html`<tr><th scope="row">${minute(atMs)}</th>${[mean, least, greatest].map((value) => html`<td class="number">${quantity(value, unit)}</td>`)}</tr>`,
  );
  return html`<details><summary>The numbers as a table</summary><table class="list"><thead><tr><th scope="col">From</th><th scope="col" class="number">Mean</th><th scope="col" class="number">Least</th><th scope="col" class="number">Greatest</th></tr></thead><tbody>${rows}</tbody></table></details>`;
}

const minute = (atMs: number): Html =>
  html`<time datetime="${iso(atMs).slice(0, 16)}Z">${iso(atMs).slice(0, 16).replace("T", " ")} UTC</time>`;
const pathOf = (places: readonly string[]): string => `M${places.join("L")}`;

/** Runs of points without a gap. */
function unbroken(points: readonly CurvePoint[]): CurvePoint[][] {
  const steps = points.slice(1).map((point, index) => point.atMs - points[index]!.atMs);
  const gapMs = 3 * (steps.toSorted((a, b) => a - b)[Math.floor(steps.length / 2)] ?? 0);
  const pieces: CurvePoint[][] = [];
  for (const [index, point] of points.entries()) {
    if (index === 0 || steps[index - 1]! > gapMs) pieces.push([]);
    pieces.at(-1)!.push(point);
  }
  return pieces;
}

/** At most so many: each stands for as many points. */
function thin(points: readonly CurvePoint[], most: number): CurvePoint[] {
  const each = Math.ceil(points.length / most);
  const rows: CurvePoint[] = [];
  for (let at = 0; at < points.length; at += each) {
    const part = points.slice(at, at + each);
    const mean = part.reduce((sum, point) => sum + point.mean, 0) / part.length;
    const least = Math.min(...part.map((point) => point.least));
    const greatest = Math.max(...part.map((point) => point.greatest));
    rows.push({ atMs: part[0]!.atMs, mean, least, greatest });
  }
  return rows;
}

type Axes = { readonly most: number; readonly unit: string; readonly fromMs: number; readonly spanMs: number };

/** Shapes over a grid, with the words of both axes beside them. */
function plot(words: string, shapes: Html, { most, unit, fromMs, spanMs }: Axes): Html {
  const levels = [1, 0.5, 0];
  const grid = levels.map((share) => html`<path class="grid" d="M0 ${height * (1 - share)}H${width}"/>`);
  const level = (share: number): Html =>
    html`<span>${quantity(most * share, share === 1 || unit !== "faults" ? unit : "")}</span>`;
  const time = (share: number): Html => {
    const at = iso(fromMs + spanMs * share);
    const label = spanMs > 2 * 86_400_000 ? at.slice(5, 10) : at.slice(11, 16);
    return html`<span${share > 0 && share < 1 && share !== 0.5 ? html` class="wide"` : nothing}>${label}${share === 1 ? " UTC" : ""}</span>`;
  };
  return html`<div class="plot"><div class="levels" aria-hidden="true">${levels.map(level)}</div><svg viewBox="0 0 ${width} ${height}" preserveAspectRatio="none" role="img" aria-label="${words}">${grid}${shapes}</svg><div class="times" aria-hidden="true">${[0, 0.25, 0.5, 0.75, 1].map(time)}</div></div>`;
}

/** Told apart without colour: plain, stripes one way, the other way crossed, dots. */
const patterns = html`<pattern id="p-degraded" width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(45)"><rect width="6" height="6" class="ground-degraded"/><line x1="0" y1="0" x2="0" y2="6" class="ink"/></pattern><pattern id="p-failed" width="6" height="6" patternUnits="userSpaceOnUse"><rect width="6" height="6" class="ground-failed"/><path d="M0 0l6 6M6 0L0 6" class="ink"/></pattern><pattern id="p-other" width="5" height="5" patternUnits="userSpaceOnUse"><circle cx="2" cy="2" r="1.2" class="ground-other"/></pattern>`;

function niceMost(most: number): number {
  if (most <= 0) return 1;
  const power = 10 ** Math.floor(Math.log10(most));
  const steps = [1, 2, 4, 5, 10].map((step) => step * power);
  const fit = steps.find((step) => step >= most) ?? 10 * power;
  return most <= 4 && Number.isInteger(most) ? Math.max(2, fit) : fit;
}
