// SPDX-License-Identifier: Apache-2.0
/**
 * Charts as SVG, drawn here, with a sentence above and the same numbers as a table below. Gets points; gives HTML.
 *
 * Kinds differ by pattern as well as by colour; gaps stay gaps; both axes are labelled. No script is needed.
 */
import type { FaultLine } from "../model/readModel.ts";
import { verdictOf } from "../model/readModel.ts";
import { iso, plural } from "./format.ts";
import { type Html, html, nothing } from "./html.ts";

const width = 720;
const height = 150;
const left = 40;
const bottom = 22;
const top = 8;
const plotWidth = width - left - 6;
const plotHeight = height - bottom - top;

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
  const scale = niceMost(most);
  const step = plotWidth / bars.length;
  const drawn = bars.map((bar, index) => {
    let y = top + plotHeight;
    return kinds.map((kind) => {
      if (bar[kind] === 0) return nothing;
      const size = Math.max(2, (bar[kind] / scale) * plotHeight);
      y -= size;
      return html`<rect class="${kind}" x="${(left + index * step + 1).toFixed(1)}" y="${y.toFixed(1)}" width="${Math.max(1, step - 2).toFixed(1)}" height="${size.toFixed(1)}"/>`;
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
            html`<tr><th scope="row"><time datetime="${iso(bar.fromMs)}">${iso(bar.fromMs).slice(0, 16).replace("T", " ")} UTC</time></th>${kinds.map((kind) => html`<td class="number">${bar[kind]}</td>`)}</tr>`,
        )
  }</tbody></table></details>`;
  return html`<figure class="chart"><figcaption>${words}</figcaption><svg viewBox="0 0 ${width} ${height}" role="img" aria-label="${words}"><defs>${patterns}</defs>${axes(scale, "faults")}${timeTicks(bars[0]?.fromMs ?? 0, partMs * bars.length)}${drawn}</svg><ul class="legend">${kinds.map((kind) => html`<li><svg width="12" height="12" aria-hidden="true" focusable="false"><rect class="${kind}" width="12" height="12"/></svg>${kind}</li>`)}</ul>${table}</figure>`;
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
  points: readonly CurvePoint[],
  span: { readonly fromMs: number; readonly toMs: number },
): Html {
  const values = points.map((point) => point.greatest);
  const most = niceMost(Math.max(0, ...values));
  const least = Math.min(0, ...points.map((point) => point.least));
  const x = (atMs: number): number => left + ((atMs - span.fromMs) / (span.toMs - span.fromMs)) * plotWidth;
  const y = (value: number): number => top + plotHeight - ((value - least) / (most - least || 1)) * plotHeight;
  const steps = points
    .slice(1)
    .map((point, index) => point.atMs - points[index]!.atMs)
    .sort((a, b) => a - b);
  const gapMs = 3 * (steps[Math.floor(steps.length / 2)] ?? 0);
  let line = "";
  for (const [index, point] of points.entries()) {
    const jump = index === 0 || point.atMs - points[index - 1]!.atMs > gapMs;
    line += `${jump ? "M" : "L"}${x(point.atMs).toFixed(1)} ${y(point.mean).toFixed(1)}`;
  }
  const band = points.map(
    (point) =>
      html`<line class="band" x1="${x(point.atMs).toFixed(1)}" x2="${x(point.atMs).toFixed(1)}" y1="${y(point.least).toFixed(1)}" y2="${y(point.greatest).toFixed(1)}"/>`,
  );
  const last = points.at(-1);
  const shown = (value: number): string => `${short(value)}${unit === "" ? "" : ` ${unit}`}`;
  const words =
    last === undefined
      ? `${name}: nothing was recorded in this span.`
      : `${name}: ${shown(last.mean)} at the end, ${shown(Math.min(...points.map((point) => point.least)))} to ${shown(Math.max(...values))} over ${plural(points.length, "point")}.`;
  const rows = thin(points).map(
    (point) =>
      html`<tr><th scope="row"><time datetime="${iso(point.atMs)}">${iso(point.atMs).slice(0, 16).replace("T", " ")} UTC</time></th><td class="number">${short(point.mean)}</td><td class="number">${short(point.least)}</td><td class="number">${short(point.greatest)}</td></tr>`,
  );
  return html`<figure class="chart"><figcaption>${words}</figcaption><svg viewBox="0 0 ${width} ${height}" role="img" aria-label="${words}">${axes(most, unit)}${timeTicks(span.fromMs, span.toMs - span.fromMs)}${band}<path class="curve" d="${line}"/></svg>${
    points.length === 0
      ? nothing
      : html`<details><summary>The numbers as a table</summary><table class="list"><thead><tr><th scope="col">From</th><th scope="col" class="number">Mean</th><th scope="col" class="number">Least</th><th scope="col" class="number">Greatest</th></tr></thead><tbody>${rows}</tbody></table></details>`
  }</figure>`;
}

/** At most 48 rows: each stands for as many points. */
function thin(points: readonly CurvePoint[]): CurvePoint[] {
  const each = Math.ceil(points.length / 48);
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

function axes(most: number, unit: string): Html {
  const lines = [0, 0.5, 1].map((share) => {
    const y = top + plotHeight * (1 - share);
    return html`<line class="grid" x1="${left}" x2="${width - 6}" y1="${y}" y2="${y}"/><text x="${left - 6}" y="${y + 4}" text-anchor="end">${short(most * share)}</text>`;
  });
  return html`<g aria-hidden="true">${lines}<text x="${left + 4}" y="${top + 9}" class="unit">${unit}</text></g>`;
}

function timeTicks(fromMs: number, spanMs: number): Html {
  const ticks = [0, 0.25, 0.5, 0.75, 1].map((share) => {
    const at = iso(fromMs + spanMs * share);
    const anchor = share === 0 ? "start" : share === 1 ? "end" : "middle";
    const label = spanMs > 2 * 86_400_000 ? at.slice(5, 10) : at.slice(11, 16);
    const inner = share > 0 && share < 1 ? html` class="wide"` : nothing;
    return html`<text${inner} x="${left + plotWidth * share}" y="${height - 6}" text-anchor="${anchor}" data-time="${at}">${label}${share === 1 ? " UTC" : ""}</text>`;
  });
  return html`<g aria-hidden="true">${ticks}</g>`;
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

function short(value: number): string {
  const size = Math.abs(value);
  if (size >= 1e9) return `${(value / 1e9).toFixed(1)}G`;
  if (size >= 1e6) return `${(value / 1e6).toFixed(1)}M`;
  if (size >= 1e4) return `${(value / 1e3).toFixed(0)}k`;
  return size >= 100 || Number.isInteger(value) ? value.toFixed(0) : value.toPrecision(2);
}
