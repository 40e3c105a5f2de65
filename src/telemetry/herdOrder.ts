// SPDX-License-Identifier: Apache-2.0
/**
 * Which of two rescue records for one site wins. A total order that depends only on the records, so that all boxes end on
 * the same one whatever order they saw them in. Pure integers.
 */
import type { KeyId } from "./keys.ts";
import type { RescueRecord } from "./rescueRecord.ts";

/** A record is published when its own score is at least this. */
export const publishScoreMin = 300;

export type Counts = { readonly clean: number; readonly degraded: number; readonly failed: number };

/** 0..1000. A failure weighs four clean outcomes; four in the divisor keep one lucky trial from a full score. */
export function score({ clean, degraded, failed }: Counts): number {
  return Math.floor((1000 * (2 * clean + degraded)) / (2 * (clean + degraded) + 8 * failed + 4));
}

export type Contender = {
  readonly record: Pick<RescueRecord, "clean" | "degraded" | "failed" | "rev">;
  readonly author: KeyId;
};

/** Below 0 where `a` wins. Same author: the higher `rev`, even if worse. Others: score, trials, smaller key id. */
export function contest(a: Contender, b: Contender): number {
  if (a.author === b.author) return b.record.rev - a.record.rev;
  return score(b.record) - score(a.record) || trials(b.record) - trials(a.record) || (a.author < b.author ? -1 : 1);
}

/** The winner, or null of none. */
export const best = <C extends Contender>(contenders: readonly C[]): C | null =>
  [...newestOfEachAuthor(contenders)].sort(contest)[0] ?? null;

function newestOfEachAuthor<C extends Contender>(contenders: readonly C[]): Iterable<C> {
  const newest = new Map<KeyId, C>();
  for (const contender of contenders) {
    const known = newest.get(contender.author);
    if (known === undefined || contest(contender, known) < 0) newest.set(contender.author, contender);
  }
  return newest.values();
}

const trials = ({ clean, degraded, failed }: Counts): number => clean + degraded + failed;
