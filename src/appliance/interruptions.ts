// SPDX-License-Identifier: Apache-2.0
/**
 * What a trial is worth whose supervisor ended before the verdict. Gets the trials of earlier runs; gives those that a
 * decision may look at. Pure.
 *
 * One interruption says nothing of the edit: somebody has killed the supervisor. Two in a row of the same edit may be its
 * doing, and count as failures, so that no supervisor dies of the same act for ever.
 */
import type { PastTrial } from "#fault.ts";

export function withoutInterruptions(history: readonly PastTrial[]): PastTrial[] {
  const latest = new Map<string, PastTrial>();
  for (const past of history) latest.set(nameOf(past), past);
  const before = new Map<string, PastTrial>();
  const inARow = new Set<PastTrial>();
  for (const past of history) {
    const earlier = before.get(nameOf(past));
    if (past.interrupted === true && earlier?.interrupted === true) inARow.add(past).add(earlier);
    before.set(nameOf(past), past);
  }
  return history.filter(
    (past) => past.interrupted !== true || (inARow.has(past) && inARow.has(latest.get(nameOf(past))!)),
  );
}

const nameOf = ({ site, key }: PastTrial): string => `${site.fault} ${key}`;
