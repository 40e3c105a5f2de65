// SPDX-License-Identifier: Apache-2.0
/**
 * How far the time of a row can be trusted. Gets the boot of a row and what is known of that boot's clock; gives the
 * corrected time and its quality. Pure.
 *
 * A box without a battery clock starts somewhere in the past. When its clock is set later in the same boot, the step is
 * known by the monotonic clock and everything written before it can be corrected; a boot that never had time stays a guess.
 */
import type { TimeQuality } from "./payloads.ts";

/** The clock of one boot was set when the journal stood at `n`; times up to there are `jumpMs` too early. */
export type ClockMark = { readonly boot: string; readonly n: number; readonly jumpMs: number };
/** Boots whose marks are kept. */
export const marksMax = 20;

export type StampedTime = { readonly atMs: number; readonly quality: TimeQuality };

export function stamp(atMs: number, n: number, boot: string, marks: readonly ClockMark[]): StampedTime {
  const mark = marks.find((candidate) => candidate.boot === boot);
  if (mark === undefined) return { atMs, quality: "guess" };
  if (n > mark.n || mark.jumpMs === 0) return { atMs, quality: "synced" };
  return { atMs: atMs + mark.jumpMs, quality: "fixed" };
}

/** The marks with one more, the newest last. */
export const withMark = (marks: readonly ClockMark[], mark: ClockMark): readonly ClockMark[] =>
  [...marks.filter((other) => other.boot !== mark.boot), mark].slice(-marksMax);
