// SPDX-License-Identifier: Apache-2.0
/**
 * Counting our own thread and children for real: software events everywhere, hardware events where there is a PMU. And the
 * memory they are written to.
 */

import { heapStats } from "bun:jsc";
import { afterAll, describe, expect, test } from "bun:test";
import { systemBox } from "#board/box.ts";
import { systemClock } from "#clock.ts";
import { abilitiesOf } from "#monitor/counters/abilities.ts";
import { type EventPlan, type PlannedGroup, planEvents } from "#monitor/counters/eventPlan.ts";
import { provenPlan } from "#monitor/counters/provenPlan.ts";
import { columnsOf, finePeriodNs, fineRows, rawRows, SampleBoard, slotsMax } from "#monitor/counters/sampleBoard.ts";
import { Sampler } from "#monitor/counters/sampler.ts";
import { need } from "#tests/skip.ts";

const plan = provenPlan(planEvents(systemBox), systemBox);
const scope = "user and kernel";
const open = (own: EventPlan = plan) => {
  const board = SampleBoard.create(own);
  return { board, sampler: new Sampler(own, board, systemBox) };
};
const software = (sampler: Sampler, event: string): number | null | undefined =>
  sampler.totals(0).find((reading) => reading.event === event)?.total;

const perfEvents = (): string | null => {
  const { sampler } = open();
  using _ = sampler;
  sampler.watch(0, [process.pid], false);
  const { kind, why, advice } = abilitiesOf(plan, sampler.opened);
  return kind === "none" ? `perf events: ${why}; ${advice}` : null;
};
/** Hardware counters, and why there are none. */
const pmu = (): string | null => {
  const { sampler } = open();
  using _ = sampler;
  sampler.watch(0, [process.pid], false);
  const { kind, why, advice } = abilitiesOf(plan, sampler.opened);
  return kind === "hardware" ? null : `a PMU: ${why}; ${advice}`;
};

const children: Bun.Subprocess[] = [];
afterAll(async () => {
  for (const child of children) child.kill("SIGKILL");
  await Promise.all(children.map(({ exited }) => exited));
});
const burn = (): Bun.Subprocess => {
  const child = Bun.spawn(["/bin/sh", "-c", "while :; do :; done"]);
  children.push(child);
  return child;
};

need(perfEvents)("software events of our own thread rise, and are on hardware all the time", () => {
  const { sampler } = open();
  using _ = sampler;
  sampler.watch(0, [process.pid], false);
  sampler.tick(1);
  const before = software(sampler, "task_clock")!;
  for (let spin = 0; spin < 1e6; spin += 1) Math.sqrt(spin);
  sampler.tick(2);
  expect(software(sampler, "task_clock")!).toBeGreaterThan(before);
  expect(sampler.totals(0).find(({ event }) => event === "task_clock")?.runningRatio).toBe(1);
  expect(sampler.totals(0).some(({ event }) => event === "kvm_exits")).toBe(false);
});

need(perfEvents)("a thread that ended leaves its totals with its workload", async () => {
  const { sampler, board } = open();
  using _ = sampler;
  const child = burn();
  sampler.watch(0, [child.pid], false);
  for (let tries = 0; tries < 500 && !(software(sampler, "task_clock")! > 1e6); tries += 1) {
    await systemClock.sleep(5);
    sampler.tick(systemClock.monotonicNs());
  }
  const before = software(sampler, "task_clock")!;
  expect(before).toBeGreaterThan(1e6);
  sampler.watch(0, [], false);
  expect(sampler.threads).toBe(0);
  expect(board.tid(0)).toBe(0);
  expect(software(sampler, "task_clock")).toBe(before);
});

need(perfEvents)("ten thousand ticks allocate nothing", () => {
  const { sampler } = open();
  using _ = sampler;
  sampler.watch(0, [process.pid], false);
  for (let tick = 0; tick < 20_000; tick += 1) sampler.tick(tick * 1e7);
  Bun.gc(true);
  const before = heapStats();
  for (let tick = 0; tick < 10_000; tick += 1) sampler.tick(tick * 1e7);
  const after = heapStats();
  // A number or an object a tick would be 10,000 of them, and 160 kB.
  expect(after.objectCount - before.objectCount).toBeLessThan(500);
  expect(after.heapSize - before.heapSize).toBeLessThan(64 * 1024);
});

need(pmu)("hardware events rise together; what this PMU does not count is absent with its reason, never 0", () => {
  const { sampler } = open();
  using _ = sampler;
  sampler.watch(0, [process.pid], false);
  for (let spin = 0; spin < 1e6; spin += 1) Math.sqrt(spin);
  sampler.tick(1);
  const totals = sampler.totals(0);
  const cycles = totals.filter(({ event }) => event === "cycles");
  expect(cycles.some(({ total }) => total !== null && total > 1e5)).toBe(true);
  for (const { runningRatio } of cycles) expect(runningRatio).toBeLessThanOrEqual(1);
  const { events } = abilitiesOf(plan, sampler.opened);
  for (const event of [
    "instructions",
    "cache_misses",
    "branch_misses",
    "stalled_frontend",
    "stalled_backend",
  ] as const) {
    const able = events.filter((each) => each.event === event);
    expect(able.length).toBeGreaterThan(0);
    for (const { cluster, state } of able) {
      const reading = totals.find((each) => each.event === event && each.cluster === cluster);
      if (state.kind === "absent") expect([reading, state.why.length > 10]).toEqual([undefined, true]);
      else
        expect(reading === undefined || reading.total === null || event !== "instructions" || reading.total > 0).toBe(
          true,
        );
    }
  }
});

test("what the kernel refuses has no total, and a reason", () => {
  const impossible: EventPlan = {
    groups: [{ cluster: "", kind: "hardware", scope, events: [{ event: "cycles", type: 0xfff0, config: 0n }] }],
    absent: [],
  };
  const { sampler } = open(impossible);
  using _ = sampler;
  sampler.watch(0, [process.pid], false);
  sampler.tick(1);
  expect(sampler.totals(0)).toEqual([]);
  const { kind, events } = abilitiesOf(impossible, sampler.opened);
  expect(kind).toBe("none");
  expect(events[0]!.state.kind).toBe("absent");
});

test("the plan is what the kernel lets us do; what it refuses has a reason, and nothing counts 0 that is not 0", () => {
  const event = (name: "cycles" | "page_faults" | "context_switches") => ({ event: name, type: 1, config: 0n });
  const group = (...events: PlannedGroup["events"]): PlannedGroup => ({ cluster: "", kind: "software", scope, events });
  const wanted: EventPlan = {
    groups: [group(event("page_faults"), event("context_switches")), group(event("cycles"))],
    absent: [],
  };
  const unprivileged = provenPlan(wanted, systemBox, (events, userOnly) =>
    events.map(({ event: name }) => (name === "cycles" ? 2 : userOnly ? null : 13)),
  );
  expect(unprivileged.groups.map((each) => [each.scope, each.events.map(({ event: name }) => name)])).toEqual([
    ["user", ["page_faults"]],
  ]);
  expect(unprivileged.absent.map(({ event: name, reason }) => `${name}: ${reason.why}; ${reason.advice}`)).toEqual([
    expect.stringMatching(/^context_switches: not permitted: kernel.perf_event_paranoid is .*; CAP_PERFMON, or sysctl/),
    expect.stringContaining("cycles: the processor's PMU does not count cycles"),
  ]);
  expect(provenPlan(wanted, systemBox, (events) => events.map(() => null))).toEqual(wanted);
});

test("more threads than there is room for: the first ones are counted", () => {
  const { sampler } = open({ groups: [], absent: [] });
  using _ = sampler;
  sampler.watch(
    0,
    Array.from({ length: slotsMax + 9 }, (_, index) => index + 1),
    false,
  );
  expect(sampler.threads).toBe(slotsMax);
  sampler.watch(0, [1, 2], false);
  expect(sampler.threadsOf(0)).toEqual([1, 2]);
});

describe("the board", () => {
  const own: EventPlan = { groups: [{ cluster: "", kind: "software", scope, events: [] }], absent: [] };
  test("rows come back oldest first, clear of the writer once the ring is full", () => {
    const board = SampleBoard.create(own);
    expect(columnsOf(own)).toEqual([1, 4]);
    board.assign(3, 77, 0);
    board.clear(3);
    board.use([3]);
    expect(board.newestRow(3)).toBeNull();
    const write = (value: number): void => {
      board.begin(value);
      board.end();
    };
    for (let value = 0; value < 5; value += 1) write(value);
    expect(board.rowsOf(3, "raw").map((row) => board.timeNs(row))).toEqual([0, 1, 2, 3, 4]);
    expect(board.word(board.newestRow(3)! + 1)).toBe(0);
    for (let value = 5; value < rawRows + 10; value += 1) write(value);
    const values = board.rowsOf(3, "raw").map((row) => board.timeNs(row));
    expect(values[0]).toBe(12);
    expect(values.at(-1)).toBe(rawRows + 9);
  });
  test("the fine ring keeps one row every 100 ms, more than a minute of them", () => {
    expect((fineRows - 2) * finePeriodNs).toBeGreaterThan(60e9);
    const board = SampleBoard.create(own);
    const sampler = new Sampler(own, board, systemBox);
    sampler.watch(0, [1], false);
    for (let tick = 1; tick <= 1_000; tick += 1) sampler.tick(tick * 10e6);
    const times = board.rowsOf(0, "fine").map((row) => board.timeNs(row) / 1e6);
    expect(times.slice(0, 3)).toEqual([100, 200, 300]);
    expect(times.length).toBe(100);
  });
});
