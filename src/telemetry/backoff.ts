// SPDX-License-Identifier: Apache-2.0
/**
 * How long to wait before the next connect: decorrelated jitter, so that a fleet does not come back in one second. Gets the
 * last wait, how long the last connection lived and how it ended; gives the next wait. Pure.
 *
 * Source: "Exponential Backoff And Jitter" (AWS Architecture Blog, 2015), the decorrelated form: between the least and
 * three times the last wait.
 */
import type { Random } from "#clock.ts";
import type { ReconnectSettings } from "./settings.ts";

export type LinkEnd = {
  /** `busy`: the broker said that it is overloaded or that our quota is spent. */
  readonly kind: "closed" | "refused" | "busy" | "restart";
  readonly connectedMs: number;
};

/** The wait before the very first connect of a boot. */
export const firstWaitMs = (settings: ReconnectSettings, random: Random): number => random() * settings.spreadMs;

export function nextWaitMs(lastMs: number, end: LinkEnd, settings: ReconnectSettings, random: Random): number {
  // Our own wish, such as a new session number: nothing is wrong with the broker.
  if (end.kind === "restart") return 0;
  const { leastMs, mostMs, busyMs, healthyMs } = settings;
  const from = end.connectedMs >= healthyMs ? leastMs : Math.max(leastMs, lastMs);
  const drawn = leastMs + random() * (Math.min(mostMs, from * 3) - leastMs);
  return Math.min(mostMs, end.kind === "busy" ? Math.max(busyMs, drawn) : drawn);
}
