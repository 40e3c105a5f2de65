// SPDX-License-Identifier: Apache-2.0
/** Ticks are due at multiples of the period; late ones are counted; a call ends a round. */
import { expect, test } from "bun:test";
import type { Clock } from "#clock.ts";
import { TickLoop } from "#monitor/counters/tickLoop.ts";

/** Time passes a little with each look at it. */
class SteppingClock implements Clock {
  nowNs = 0;
  constructor(private readonly stepNs: number) {}
  wallMs = (): number => this.nowNs / 1e6;
  monotonicNs = (): number => (this.nowNs += this.stepNs);
  sleep = (): Promise<void> => Promise.resolve();
  pause = (pauseUs: number): void => {
    this.nowNs += pauseUs * 1000;
  };
}
const control = (): Int32Array => new Int32Array(new SharedArrayBuffer(4));

test("a round is a second of ticks", () => {
  const clock = new SteppingClock(1e6);
  const at: number[] = [];
  const loop = new TickLoop(100, control(), clock, (nowNs) => at.push(nowNs), clock.pause);
  loop.round(0);
  expect(loop.ticks).toBeWithin(99, 102);
  expect(loop.late).toBe(0);
  expect(at.every((nowNs, index) => Math.abs(nowNs - (1e6 + index * 10e6)) <= 2e6)).toBe(true);
});

test("ticks that came too late are counted and not made up for", () => {
  const clock = new SteppingClock(1e6);
  let ticks = 0;
  const loop = new TickLoop(
    100,
    control(),
    clock,
    () => {
      ticks += 1;
      if (ticks % 10 === 0) clock.nowNs += 35e6;
    },
    clock.pause,
  );
  loop.round(0);
  expect(loop.late).toBeGreaterThan(3);
  expect(ticks).toBeLessThan(90);
});

test("a call ends the round, and the next one begins at once", () => {
  const words = control();
  const clock = new SteppingClock(1e5);
  const loop = new TickLoop(1_000, words, clock, () => Atomics.store(words, 0, 1), clock.pause);
  loop.round(0);
  expect(loop.ticks).toBe(1);
});
