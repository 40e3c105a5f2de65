// SPDX-License-Identifier: Apache-2.0
/**
 * How often is rehearsed for whom, when memory is given back, and the beat by which sleepers wake together.
 */
import { expect, test } from "bun:test";
import { Settling } from "#appliance/settling.ts";
import { type Clock, ManualClock, sleepToBeat } from "#clock.ts";
import { TaskGroup } from "#tasks.ts";

test("the first program is rehearsed for at length, memory is given back once all is quiet, and is warmed up after", async () => {
  const clock = new ManualClock();
  await using tasks = new TaskGroup();
  const seen: string[] = [];
  const settling = new Settling(
    clock,
    tasks,
    () => seen.push("given back"),
    (wait) => seen.push(wait ? "collected at once" : "collected"),
  );
  const rehearsal = (name: string) => async (rounds: number) => void seen.push(`${name} ${rounds}`);
  await settling.rehearse(rehearsal("first"), false);
  expect(seen.splice(0)).toEqual(Array.from({ length: 8 }, () => ["first 25", "collected"]).flat());
  await clock.advance(6_000);
  await settling.rehearse(rehearsal("second"), false);
  await settling.rehearse(rehearsal("child"), true);
  expect(seen.splice(0)).toEqual(["second 8", "child 8"]);
  await clock.advance(6_000);
  expect(seen).toEqual([]);
  await clock.advance(6_000);
  expect(seen).toEqual(["collected at once", "given back", "child 8"]);
  seen.length = 0;
  await clock.advance(120_000);
  expect(seen).toEqual(["collected at once", "given back", "child 8", "collected"]);
});

test("while programs are taken under guard it collects all the time, and no more once all is quiet or it took too long", async () => {
  const clock = new ManualClock();
  await using tasks = new TaskGroup();
  let collected = 0;
  const settling = new Settling(
    clock,
    tasks,
    () => {},
    () => {
      collected += 1;
    },
  );
  settling.begin();
  await clock.advance(1_000);
  expect(collected).toBe(20);
  await settling.rehearse(async () => {}, true);
  await clock.advance(15_000);
  expect(collected).toBeGreaterThan(100);
  const atRest = collected;
  await clock.advance(30_000);
  expect(collected).toBe(atRest);
});

test("sleepers of one beat share a timer; one that is aborted does not wake the others", async () => {
  const manual = new ManualClock();
  let timers = 0;
  const clock: Clock = {
    wallMs: () => manual.wallMs(),
    monotonicNs: () => manual.monotonicNs(),
    sleep: (delayMs, signal) => {
      timers += 1;
      return manual.sleep(delayMs, signal);
    },
  };
  await manual.advance(30);
  const woken: string[] = [];
  const gone = new AbortController();
  const sleep = (name: string, signal?: AbortSignal): Promise<void> =>
    sleepToBeat(clock, 100, signal).then(
      () => void woken.push(name),
      () => void woken.push(`${name} aborted`),
    );
  const all = [sleep("a"), sleep("b", gone.signal), sleep("c")];
  expect(timers).toBe(1);
  gone.abort();
  await all[1];
  expect(woken).toEqual(["b aborted"]);
  await manual.advance(69);
  expect(woken.length).toBe(1);
  await manual.advance(1);
  await Promise.all(all);
  expect(woken).toEqual(["b aborted", "a", "c"]);
});
