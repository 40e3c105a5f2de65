// SPDX-License-Identifier: Apache-2.0
/**
 * What the page makes of the monitor's looks and of what the uplink tells: rates, and issues with their stable codes.
 */
import { describe, expect, test } from "bun:test";
import { absent, type CounterReading, type HostHealth, seen } from "#health.ts";
import { sampleOf } from "#metrics.ts";
import { fleetIssues } from "#status/model/fleetIssues.ts";
import { busyShare, counterTables } from "#status/model/rates.ts";
import { seenIssues } from "#status/model/seenIssues.ts";
import { type WorkloadLine, worstFirst } from "#status/model/workloads.ts";
import { type LookTold, type Told, type UplinkTold, unknown, type WorkloadTold } from "#status/told.ts";
import { workload } from "#tests/peers/pageHost.ts";
import { busyLook } from "#tests/peers/pageScene.ts";

const dayMs = 86_400_000;
const nowMs = 1_795_000_000_000;

const look = (atMs: number, totals: Partial<Record<CounterReading["event"], number | null>>): LookTold => {
  const readings = Object.entries(totals).map(([event, total]) => ({
    ...{ event: event as CounterReading["event"], cluster: "", total, runningRatio: total === null ? 0 : 0.5 },
  }));
  const counters = [{ workload: "shop", atMs, threads: 2, readings, exits: absent("no guest") }];
  return { atMs, host: null, detections: [], counters };
};

test("of many workloads those come first that need somebody, then those that fault most", () => {
  const line = (name: string, faults: number, change: Partial<WorkloadTold> = {}): WorkloadLine => ({
    ...{ told: workload(name, change), faults, survived: faults, cut: 0, stopUsMedian: null, outcomes: new Map() },
  });
  const lines = [
    ...[line("quiet", 0), line("ill", 0, { state: "error" }), line("busy", 9), line("bare", 1, { protected: false })],
    line("still", 0),
  ];
  expect(worstFirst(lines).map(({ told }) => told.name)).toEqual(["bare", "ill", "busy", "quiet", "still"]);
});

describe("rates", () => {
  test("two looks give rates and ratios; what was never counted has none", () => {
    const before = look(1_000, { instructions: 1_000, cycles: 500, cache_misses: 10, branch_misses: null });
    const now = look(3_000, { instructions: 5_000, cycles: 2_500, cache_misses: 18, branch_misses: null });
    const [table] = counterTables(now, before);
    expect(table!.rows.map(({ event, perSecond }) => [event, perSecond])).toEqual([
      ["instructions", 2_000],
      ["cycles", 1_000],
      ["cache_misses", 4],
      ["branch_misses", null],
    ]);
    expect([table!.instructionsPerCycle, table!.cacheMissesPerThousand, table!.branchMissesPerThousand]).toEqual([
      2,
      2,
      null,
    ]);
  });

  test("one look, the same look, and a count that began anew give none", () => {
    const now = look(3_000, { instructions: 5_000 });
    for (const before of [null, now, look(1_000, { instructions: 9_000 })]) {
      expect(counterTables(now, before)[0]!.rows[0]!.perSecond).toBeNull();
    }
    expect(counterTables(null, null)).toEqual([]);
  });

  test("processors busy between two looks of the host", () => {
    const host = (processorSeconds: number, busySeconds: number) =>
      ({ ...busyLook(nowMs).host!, processorSeconds, busySeconds }) satisfies HostHealth;
    expect(busyShare(host(200, 40), host(100, 15))).toBe(0.25);
    expect(busyShare(host(100, 40), host(100, 40))).toBeNull();
    expect(busyShare(null, host(1, 1))).toBeNull();
  });
});

const uplink: UplinkTold = {
  ...{ broker: "mqtts://broker", connected: true, sinceMs: nowMs - dayMs, why: null, lastAckMs: nowMs },
  ...{ waitingMessages: 0, oldestMs: null, droppedRows: 0, certificateEndsMs: nowMs + 31 * dayMs },
};

const none = unknown("not here");

const codesOf = (change: Partial<Told>): string[] => {
  const told = { uplink: none, boots: [], monitor: null, metrics: [], ...change };
  return [...fleetIssues({ told, nowMs }), ...seenIssues({ told, nowMs })].map(({ code }) => code);
};

describe("issues", () => {
  test("of the uplink", () => {
    const codes = (change: Partial<UplinkTold>, more: Partial<Told> = {}) =>
      codesOf({ uplink: { known: true, value: { ...uplink, ...change } }, ...more });
    expect(codes({})).toEqual([]);
    expect(codes({ certificateEndsMs: nowMs + 29 * dayMs })).toEqual(["uplink.certificateEnds"]);
    expect(codes({ oldestMs: nowMs - 2 * 3_600_000 })).toEqual(["uplink.outboxOld"]);
    expect(codes({ connected: false, why: "it is frozen", droppedRows: 4 })).toEqual([
      "uplink.refused",
      "uplink.dropping",
    ]);
    expect(codes({}, { metrics: [sampleOf("herd_used_total", ["failed"], 1)] })).toEqual(["fleet.recordFailed"]);
  });

  test("of what the monitor sees, and of boots", () => {
    const host = { ...busyLook(nowMs).host!, clock: seen({ synced: false, offsetSeconds: 0, errorSecondsMax: 16 }) };
    const worn = [{ device: "mmcblk0", kind: "emmc", usedRatio: 0.95, spare: "normal" }] as const;
    const monitor = { ...busyLook(nowMs), host: { ...host, flash: seen(worn) } };
    expect(codesOf({ monitor })).toEqual(["detected.leak", "host.clockUnsynced", "host.flashWorn"]);
    const boot = (agoMs: number) => [{ atMs: nowMs - agoMs, reason: "watchdog", why: "it was hung" }];
    expect(codesOf({ boots: boot(3_600_000) })).toEqual(["box.watchdogBoot"]);
    expect(codesOf({ boots: boot(2 * dayMs) })).toEqual([]);
  });
});
