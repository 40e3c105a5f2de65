// SPDX-License-Identifier: Apache-2.0
/**
 * Upkeep comes in idle moments and in no others: none while a thread is stopped or a restore window is open.
 */
import { expect, test } from "bun:test";
import { ManualClock } from "#clock.ts";
import { Idle } from "#storage/idle.ts";

const stepMs = 20;

function begin(more: () => boolean = () => false) {
  const clock = new ManualClock();
  const idle = new Idle(clock);
  const end = new AbortController();
  const seen = { slices: 0 };
  const slice = async (): Promise<boolean> => {
    seen.slices += 1;
    return more();
  };
  const running = idle.run(slice, end.signal).catch((error: unknown) => {
    if (!end.signal.aborted) throw error;
  });
  const stop = async (): Promise<void> => {
    end.abort();
    await running;
  };
  // In small steps, so that what wakes can fall asleep again in between.
  const pass = async (ms: number): Promise<void> => {
    for (let left = ms; left > 0; left -= stepMs) await clock.advance(Math.min(stepMs, left));
  };
  return { pass, idle, seen, [Symbol.asyncDispose]: stop };
}

test("the first idle moment after a commit, and once a minute without one", async () => {
  await using run = begin();
  await run.pass(300);
  expect(run.seen.slices).toBe(1);
  await run.pass(30_000);
  expect(run.seen.slices).toBe(1);
  run.idle.committed();
  await run.pass(100);
  run.idle.committed();
  await run.pass(199);
  expect(run.seen.slices).toBe(1);
  await run.pass(400);
  expect(run.seen.slices).toBe(2);
  await run.pass(61_000);
  expect(run.seen.slices).toBe(3);
});

test("none while a thread is stopped, whoever stops first; then at once", async () => {
  await using run = begin();
  {
    using _first = run.idle.hold();
    {
      using _second = run.idle.hold();
      await run.pass(10_000);
    }
    await run.pass(120_000);
    expect(run.seen.slices).toBe(0);
  }
  await run.pass(400);
  expect(run.seen.slices).toBe(1);
});

test("none while a restore window is open, however often its note is renewed", async () => {
  await using run = begin();
  run.idle.window("guest", true);
  run.idle.window("guest", true);
  await run.pass(120_000);
  expect(run.seen.slices).toBe(0);
  run.idle.window("guest", false);
  await run.pass(400);
  expect(run.seen.slices).toBe(1);
});

test("slices follow one another while there is more, and stop where a thread does", async () => {
  const held: Disposable[] = [];
  await using run = begin(() => {
    if (run.seen.slices === 3) held.push(run.idle.hold());
    return run.seen.slices < 6;
  });
  await run.pass(300);
  expect(run.seen.slices).toBe(3);
  await run.pass(10_000);
  expect(run.seen.slices).toBe(3);
  run.idle.committed();
  held[0]![Symbol.dispose]();
  await run.pass(1_000);
  expect(run.seen.slices).toBe(6);
});
