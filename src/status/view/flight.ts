// SPDX-License-Identifier: Apache-2.0
/**
 * The flight record of a fault: one small chart a curve, the moment of the fault marked, what else happened beside it.
 * Gets the record; gives HTML. Each curve has a sentence and its numbers as text; gaps stay gaps. Pure.
 */
import type { FlightCurve, FlightRecord } from "#health.ts";
import { bytes, percent, when } from "./format.ts";
import { type Html, html, nothing } from "./html.ts";

const width = 300;
const height = 48;
const marksMax = 12;
const curvesMax = 24;

/** `faultMs`: the fault that is looked at; a record may be shared by several. */
export function flight(record: FlightRecord, faultMs: number): Html {
  const { times, curves, marks } = record;
  if (times.length === 0) return html`<p class="empty">Not available: the record of that minute is empty.</p>`;
  const [fromMs, toMs] = [times[0]!, times.at(-1)!];
  const x = (atMs: number): number => ((atMs - fromMs) / Math.max(1, toMs - fromMs)) * width;
  const shown = marks.slice(-marksMax);
  return html`<div class="flight">${curves.slice(0, curvesMax).map((curve) => curveChart(curve, times, x, faultMs))}</div>${
    shown.length === 0
      ? nothing
      : html`<ul class="why">${shown.map(({ atMs, text }) => html`<li>${when(atMs)} ${text}</li>`)}</ul>`
  }`;
}

function curveChart(curve: FlightCurve, times: readonly number[], x: (atMs: number) => number, faultMs: number): Html {
  const known = curve.values.filter((value) => value !== null);
  if (known.length === 0)
    return html`<figure><figcaption>${curve.name}: not known in this minute</figcaption></figure>`;
  const [least, most] = [Math.min(0, ...known), Math.max(...known)];
  const y = (value: number): number => height - 2 - ((value - least) / (most - least || 1)) * (height - 6);
  let line = "";
  let gap = true;
  for (const [index, value] of curve.values.entries()) {
    if (value !== null) line += `${gap ? "M" : "L"}${x(times[index]!).toFixed(1)} ${y(value).toFixed(1)}`;
    gap = value === null;
  }
  const words = `${curve.name}: ${amount(Math.min(...known), curve.unit)} to ${amount(most, curve.unit)}, ${amount(known.at(-1)!, curve.unit)} at the end`;
  const at = Math.max(0, Math.min(width, x(faultMs))).toFixed(1);
  return html`<figure><figcaption>${words}</figcaption><svg viewBox="0 0 ${width} ${height}" role="img" aria-label="${words}; the line marks the fault"><line class="mark-fault" x1="${at}" x2="${at}" y1="0" y2="${height}"/><path class="curve" d="${line}"/></svg></figure>`;
}

function amount(value: number, unit: FlightCurve["unit"]): string {
  switch (unit) {
    case "B":
      return bytes(value);
    case "/":
      return percent(value);
    case "s":
      return `${(value * 1_000).toPrecision(3)} ms`;
    case "1/s":
      return `${Number(value.toPrecision(3)).toLocaleString("en")} a second`;
    case "":
      return Number(value.toPrecision(3)).toLocaleString("en");
  }
}
