// SPDX-License-Identifier: Apache-2.0
/**
 * Makes some thousands of ticks at once, on our own main thread. A hundred ticks a second would take minutes to reach the
 * run-time compiler's best code, and until then each costs half as much again (measured). Takes some 300 ms once; blocks:
 * for a Worker. Not where ticks are rare: there compiled code is memory that brings nothing.
 */
import { systemClock } from "#clock.ts";
import type { Sampler } from "./sampler.ts";
import { TickLoop } from "./tickLoop.ts";

const rareHz = 20;
/** Numbers of workloads begin at 0: this one is nobody's. */
const nobody = -1;
/** Those without a pause in between; a lean runtime wants so many. */
const bareTicks = 100_000;
const [rehearsedHz, ticks, roundsMax] = [100_000, 5_000, 2];

export function rehearseTicks(sampler: Sampler, rateHz: number): void {
  if (rateHz <= rareHz) return;
  sampler.watch(nobody, [process.pid], false);
  for (let tick = 0; tick < bareTicks; tick += 1) sampler.tick(tick);
  const calls = new Int32Array(new SharedArrayBuffer(Int32Array.BYTES_PER_ELEMENT));
  const loop = new TickLoop(rehearsedHz, calls, systemClock, (nowNs) => {
    sampler.tick(nowNs);
    if (loop.ticks >= ticks) calls[0] = 1;
  });
  for (let round = 0; round < roundsMax && calls[0] === 0; round += 1) loop.round(0);
  sampler.watch(nobody, [], false);
}
