// SPDX-License-Identifier: Apache-2.0
/**
 * When a workload, guest or program, may be started again by itself, and after which wait. Pure. Gets the times of earlier
 * restarts and the policy; gives the wait, or that the budget is used up.
 *
 *     restarts in a row      1     2        3            n
 *     wait before it         0  backoffMs  twice that …  backoffMsMax
 *
 * A row ends with `quietMs` without a restart. The budget counts all of the last `windowMs`, whatever their row.
 */
import type { Random } from "#clock.ts";
import type { RestartPolicy } from "#config/schema.ts";

export type RestartChoice =
  | { readonly kind: "again"; readonly waitMs: number }
  /** Down until a person starts it. */
  | { readonly kind: "spent"; readonly why: string };

/** A wait is drawn out by up to this share of itself: boxes that fell together do not come back together. */
const jitterShare = 0.2;
const doublingsMax = 40;

export function chooseRestart(attempts: readonly number[], nowMs: number, policy: RestartPolicy): RestartChoice {
  const counted = attemptsInWindow(attempts, nowMs, policy).length;
  if (counted >= policy.attemptsMax) {
    return { kind: "spent", why: `${counted} restarts within ${policy.windowMs / 1000} s have not helped` };
  }
  return { kind: "again", waitMs: backoffMs(attemptsInRow(attempts, nowMs, policy), policy) };
}

/** No wait before the first attempt of a row, then doubling. */
export function backoffMs(attempts: number, { backoffMs: first, backoffMsMax }: RestartPolicy): number {
  return attempts === 0 ? 0 : Math.min(first * 2 ** Math.min(attempts - 1, doublingsMax), backoffMsMax);
}

export const attemptsInWindow = (attempts: readonly number[], nowMs: number, policy: RestartPolicy): number[] =>
  // The wall clock may jump back: an attempt from the future counts as one of now.
  attempts.filter((atMs) => nowMs - atMs < policy.windowMs);

/** Attempts, newest first, up to the first quiet time between two of them. */
export function attemptsInRow(attempts: readonly number[], nowMs: number, { quietMs }: RestartPolicy): number {
  let laterMs = nowMs;
  let counted = 0;
  for (const atMs of [...attempts].sort((a, b) => b - a)) {
    if (laterMs - atMs >= quietMs) break;
    laterMs = atMs;
    counted += 1;
  }
  return counted;
}

export const jittered = (waitMs: number, random: Random): number => waitMs * (1 + jitterShare * random());
