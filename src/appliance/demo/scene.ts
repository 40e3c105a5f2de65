// SPDX-License-Identifier: Apache-2.0
/**
 * All that the demo knows at one moment, as plain values: what the picture shows and the summary counts.
 *
 * A shot is one use of one crash command. Rates are kept for `ratesMax` samples of `sampleMs`.
 */
import type { BystanderCounts } from "./bystanders.ts";
import type { FaultEvent, OutcomeEvent } from "./guardEvents.ts";
import type { KillerFate } from "./killer.ts";
import type { Trigger } from "./triggers.ts";

export const sampleMs = 100;
const ratesMax = 600;

/**
 * `sent`: under way. `judged`: it faulted and every trial has its verdict. `fixed`: the server answered and nothing
 * faulted. `lost`: no verdict in time, or the program is gone.
 */
export type ShotState = "sent" | "judged" | "fixed" | "lost";

export type Shot = {
  readonly trigger: Trigger;
  /** Index of the rate sample during which it was sent, counted from the start. */
  readonly atSample: number;
  state: ShotState;
  fate: KillerFate | null;
  /** ip:port of the guilty client; null before it has spoken. */
  peer: string | null;
  faults: readonly FaultEvent[];
  outcomes: readonly OutcomeEvent[];
  /** Whether a client that came after it was served rightly; null while not tried. */
  newcomerServed: boolean | null;
};

export type Scene = {
  readonly title: string;
  readonly startedNs: number;
  nowNs: number;
  /** Requests a second in each sample, the newest last. */
  rates: number[];
  /** Samples taken since the start, those that were let go included. */
  samples: number;
  bystanders: BystanderCounts;
  readonly shots: Shot[];
};

export function addSample(scene: Scene, nowNs: number, counts: BystanderCounts): void {
  const elapsedS = Math.max((nowNs - scene.nowNs) / 1e9, 1e-3);
  scene.rates.push((counts.right - scene.bystanders.right) / elapsedS);
  if (scene.rates.length > ratesMax) scene.rates = scene.rates.slice(-ratesMax);
  scene.samples += 1;
  scene.bystanders = counts;
  scene.nowNs = nowNs;
}

/** The last word on a shot; null while there is none. */
export const lastOutcome = (shot: Shot): OutcomeEvent | null => shot.outcomes.at(-1) ?? null;

export const survived = (shot: Shot): boolean => {
  const verdict = lastOutcome(shot)?.verdict;
  return shot.state === "judged" && verdict !== undefined && verdict !== "failed" && shot.newcomerServed !== false;
};

export const sessionsCut = (shot: Shot): number =>
  shot.outcomes.filter((outcome) => outcome.rung === "quarantine" && outcome.session !== null).length;

export const unharmed = (counts: BystanderCounts): boolean =>
  counts.wrong === 0 && counts.missing === 0 && counts.lost === 0;
