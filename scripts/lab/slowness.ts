// SPDX-License-Identifier: Apache-2.0
/**
 * How slow the lab's machine is: how many times as long as it usually takes there, alone on two cores, to start Bun.
 * Measured once, by the median of three starts; at least 1. All patience of the scenario is multiplied by it.
 */
import { systemClock } from "#clock.ts";

/** Measured on an idle host, both architectures. */
const usualMs = 1_000;
const starts = 3;
/** Beside other work it only gets slower. */
const margin = 2;
const slownessMax = 20;

let measured: Promise<number> | null = null;

export const slowness = (): Promise<number> => {
  measured ??= measure();
  return measured;
};

async function measure(): Promise<number> {
  const tookMs: number[] = [];
  for (let start = 0; start < starts; start += 1) {
    const fromNs = systemClock.monotonicNs();
    await Bun.spawn([process.execPath, "--version"], { stdio: ["ignore", "ignore", "ignore"] }).exited;
    tookMs.push((systemClock.monotonicNs() - fromNs) / 1e6);
  }
  const medianMs = tookMs.sort((a, b) => a - b)[starts >> 1]!;
  return Math.min(slownessMax, Math.max(1, (medianMs / usualMs) * margin));
}
