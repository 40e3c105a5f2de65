// SPDX-License-Identifier: Apache-2.0
/**
 * Facts as pairs of a name and a value, shares as bars with words, and the words for what is not there. Gives HTML.
 */
import type { Known } from "../told.ts";
import { dash } from "./format.ts";
import { type Html, html, type Part } from "./html.ts";

export type Pair = readonly [name: string, value: Part];

export const pairs = (facts: readonly Pair[]): Html =>
  html`<dl class="pairs">${facts.map(([name, value]) => html`<dt>${name}</dt><dd>${value}</dd>`)}</dl>`;

export const missing = (known: Known<unknown>): Html =>
  html`<p class="empty">Not available: ${known.known ? "" : known.why}.</p>`;

export const orDash = <Value>(value: Value | null, show: (value: Value) => Part): Part =>
  value === null ? dash : show(value);

/** A share as a bar and as words. */
export function meter(share: number, words: string): Html {
  const filled = Math.max(0, Math.min(1, share)) * 100;
  return html`<span class="meter"><svg viewBox="0 0 100 6" preserveAspectRatio="none" aria-hidden="true" focusable="false"><rect class="rail" width="100" height="6" rx="3"/><rect class="fill" width="${filled.toFixed(1)}" height="6" rx="3"/></svg><span>${words}</span></span>`;
}
