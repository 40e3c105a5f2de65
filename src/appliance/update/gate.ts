// SPDX-License-Identifier: Apache-2.0
/**
 * Whether a new version has proven itself: all checks good without a break for two minutes, within ten from the start of the
 * box. Pure. Gets looks, each a list of checks at a time; gives wait, passed, or the check that it failed.
 */

export type GateCheck = { readonly name: string; readonly good: boolean; readonly says: string };

export type GateTimes = {
  /** All checks must be good for so long. */
  readonly holdMs: number;
  /** From the start of the box; but the supervisor has at least `leastMs` of its own. */
  readonly withinMs: number;
  readonly leastMs: number;
  readonly everyMs: number;
};
export const gateTimes: GateTimes = { holdMs: 120_000, withinMs: 600_000, leastMs: 240_000, everyMs: 5_000 };

/** Monotonic times, ms. */
export type GateState = {
  readonly untilMs: number;
  readonly goodSinceMs: number | null;
  /** The last check that was not good; null while all were. */
  readonly wrong: GateCheck | null;
};
export type GateVerdict =
  | { readonly kind: "wait" }
  | { readonly kind: "passed" }
  | { readonly kind: "refused"; readonly check: string; readonly why: string };

export const beginGate = (nowMs: number, upMs: number, { withinMs, leastMs }: GateTimes): GateState => ({
  untilMs: nowMs + Math.max(leastMs, withinMs - upMs),
  goodSinceMs: null,
  wrong: null,
});

export function stepGate(
  state: GateState,
  checks: readonly GateCheck[],
  nowMs: number,
  { holdMs }: GateTimes,
): { readonly state: GateState; readonly verdict: GateVerdict } {
  const wrong = checks.find(({ good }) => !good) ?? null;
  const goodSinceMs = wrong === null ? (state.goodSinceMs ?? nowMs) : null;
  const seen: GateState = { ...state, goodSinceMs, wrong: wrong ?? state.wrong };
  if (goodSinceMs !== null && nowMs - goodSinceMs >= holdMs) return { state: seen, verdict: { kind: "passed" } };
  if (nowMs < state.untilMs) return { state: seen, verdict: { kind: "wait" } };
  // What has become good too late for a whole hold is told by what was wrong before.
  const { name, says } = seen.wrong ?? { name: "time", says: `not good for ${holdMs / 1000} s in time` };
  return { state: seen, verdict: { kind: "refused", check: name, why: says } };
}
