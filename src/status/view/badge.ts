// SPDX-License-Identifier: Apache-2.0
/**
 * A state as a word and a shape; the colour only repeats it. Gets a state; gives a badge.
 */
import type { Health } from "../model/issue.ts";
import type { FaultEnd } from "../model/readModel.ts";
import type { WorkloadState } from "../told.ts";
import { type Html, html } from "./html.ts";

export type Tone = "good" | "note" | "warn" | "bad" | "dim";

/** Told apart without colour: a disc with a tick, a ring, a triangle, a square on its corner, a bar. */
const shapes: Readonly<Record<Tone, Html>> = {
  good: html`<circle cx="8" cy="8" r="7"/><path d="M4.6 8.3l2.3 2.4 4.5-5" fill="none" stroke="var(--on)" stroke-width="1.8" stroke-linecap="round" stroke-linejoin="round"/>`,
  note: html`<circle cx="8" cy="8" r="5.6" fill="none" stroke="currentColor" stroke-width="2.4"/>`,
  warn: html`<path d="M8 1.2l7 13H1z"/><path d="M8 6v4M8 12v.4" stroke="var(--on)" stroke-width="1.7" stroke-linecap="round"/>`,
  bad: html`<path d="M8 .6L15.4 8 8 15.4.6 8z"/><path d="M5.7 5.7l4.6 4.6m0-4.6l-4.6 4.6" stroke="var(--on)" stroke-width="1.7" stroke-linecap="round"/>`,
  dim: html`<rect x="2" y="6.8" width="12" height="2.4" rx="1.2"/>`,
};

export const shape = (tone: Tone, size = 16): Html =>
  html`<svg class="shape ${tone}" width="${size}" height="${size}" viewBox="0 0 16 16" fill="currentColor" aria-hidden="true" focusable="false">${shapes[tone]}</svg>`;

export const badge = (tone: Tone, word: string): Html =>
  html`<span class="badge ${tone}">${shape(tone, 12)}${word}</span>`;

export const healthTones: Readonly<Record<Health, Tone>> = {
  healthy: "good",
  attention: "note",
  degraded: "warn",
  failing: "bad",
};

const ends: Readonly<Record<FaultEnd, readonly [Tone, string]>> = {
  clean: ["good", "survived"],
  degraded: ["warn", "degraded"],
  failed: ["bad", "failed"],
  probation: ["note", "on trial"],
  delivered: ["dim", "passed on"],
  open: ["note", "open"],
};
export const endBadge = (end: FaultEnd): Html => badge(...ends[end]);

const states: Readonly<Record<WorkloadState, Tone>> = {
  starting: "note",
  guarded: "good",
  unguarded: "warn",
  up: "good",
  paused: "note",
  restarting: "note",
  down: "bad",
  error: "warn",
  ended: "bad",
};
export const stateBadge = (state: WorkloadState): Html => badge(states[state], state);
