// SPDX-License-Identifier: Apache-2.0
/** The screen of `holdfast top` and the picture of a flight record: what they say, and that they fit. */
import { expect, test } from "bun:test";
import fc from "fast-check";
import { amount, flightPicture, pictureColumns, sparkline } from "#appliance/flightPicture.ts";
import { topScreen } from "#appliance/topScreen.ts";
import { absent, type FlightRecord, type HostHealth, type MonitorView, seen } from "#health.ts";

const view = (workload: string, more: Partial<MonitorView["workloads"][number]> = {}): MonitorView => ({
  atMs: 1_795_392_000_000,
  host: null,
  counters: {
    ...{ kind: "software", why: "no PMU", advice: "" },
    events: [{ event: "cycles", cluster: "", state: absent("this machine shows no PMU", "pmu=on") }],
  },
  workloads: [
    {
      health: {
        ...{ workload, kind: "program", atMs: 1_795_392_000_000, controlGroup: absent("x"), leak: absent("y") },
        process: seen({
          ...{
            pid: 7,
            state: "S",
            cpuSeconds: 3,
            minorFaults: 0,
            majorFaults: 0,
            residentBytes: 12 * 2 ** 20,
            threads: 5,
          },
          ...{ openFiles: 9, openFilesMax: 1024, ioBytes: 5 },
        }),
        probes: [
          { probe: "tcp:1", state: "failing", failuresInRow: 4, failures: 4, lastMs: 1, why: "refused", answerMs: 1 },
        ],
      },
      counters: null,
      faults: 2,
      processorShare: [0, 0.5, 1, null],
      ...more,
    },
  ],
  detections: [
    {
      detector: "probeFailing",
      workload,
      kind: "raised",
      atMs: 1,
      sinceMs: 1_795_392_000_000,
      text: "refused",
      evidence: {},
    },
  ],
});

test("a workload in trouble, what is not counted and why", () => {
  const text = topScreen([view("shop")], [], { columns: 140, rows: 50 }).join("\n");
  expect(text).toContain("1 supervisor, 1 workload, 2 faults; TROUBLE: 1");
  expect(text).toMatch(/shop +TROUBLE +- +12 MiB +5 +9 +- +- +2 +1 FAIL ▁▅█·/);
  expect(text).toContain("shop  probeFailing: refused");
  expect(text).toContain("not counted: cycles: this machine shows no PMU; pmu=on");
});

test("processors busy are those between two looks at the box, however often the screen is drawn", () => {
  const host = (processorSeconds: number, busySeconds: number): HostHealth => ({
    ...{ atMs: 1, processors: 2, processorSeconds, busySeconds, disks: [], links: [] },
    ...{ pressure: absent("x"), memory: absent("x"), temperatures: absent("x"), throttling: absent("x") },
    ...{ flash: absent("x"), clock: absent("x") },
  });
  const drawn = (hosts: Pick<MonitorView, "host" | "hostBefore">): string => {
    const now = { ...view("shop"), ...hosts };
    return topScreen([now], [now], { columns: 140, rows: 50 }).join("\n");
  };
  expect(drawn({ host: host(200, 65), hostBefore: host(190, 60) })).toContain("cpu 50 % of 2");
  expect(drawn({ host: host(200, 65), hostBefore: null })).toContain("cpu - of 2");
});

test("rates need two rounds of the same supervisor", () => {
  const at = (total: number, atMs: number): MonitorView => {
    const first = view("shop");
    const look = first.workloads[0]!;
    const readings = [{ event: "context_switches" as const, cluster: "", total, runningRatio: 1 }];
    return {
      ...first,
      workloads: [
        {
          ...look,
          health: { ...look.health, atMs },
          counters: { workload: "shop", atMs, threads: 1, readings, exits: absent("") },
        },
      ],
    };
  };
  const lines = topScreen([at(5_000, 2_000)], [at(1_000, 0)], { columns: 140, rows: 50 });
  expect(lines.find((line) => line.startsWith("shop"))).toContain("2 k/s");
});

test("whatever the size and the names, it fits", () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 250 }),
      fc.integer({ min: 1, max: 60 }),
      fc.string(),
      (columns, rows, name) => {
        const lines = topScreen([view(name), view("b")], [], { columns, rows });
        expect(lines.length).toBeLessThanOrEqual(rows);
        for (const line of lines) expect(Bun.stringWidth(line)).toBeLessThanOrEqual(columns);
      },
    ),
  );
});

test("a flight record: gaps are dots, the fault has its mark under its column", () => {
  const faultMs = 1_795_392_055_000;
  const times = Array.from({ length: 120 }, (_, index) => faultMs - 54_500 + index * 500);
  const record: FlightRecord = {
    ...{ fault: "f1", workload: "shop", faultMs, times },
    curves: [
      {
        name: "processors",
        unit: "",
        values: times.map((timeMs) => (timeMs < faultMs - 30_000 ? null : timeMs === faultMs ? 2 : 0.5)),
      },
    ],
    marks: [{ atMs: faultMs + 300, text: "quarantine clean" }],
  };
  const [, curve, mark, note] = flightPicture(record);
  const bars = curve!.slice(16, 16 + pictureColumns);
  expect(bars).toStartWith("····");
  expect(bars.indexOf("█")).toBe(mark!.indexOf("^") - 16);
  expect(curve).toEndWith("0 … 2");
  expect(note).toContain("+0.3 s  quarantine clean");
  expect(flightPicture({ ...record, curves: [] })).toEqual([]);
});

test("amounts are short", () => {
  expect([amount(12_345_678, "B"), amount(0.256, "/"), amount(3_400, "1/s"), amount(2, "s"), amount(0, "")]).toEqual([
    ...["11.8 MiB", "26 %", "3.40 k/s", "2 s", "0"],
  ]);
  expect(sparkline([0, 7, null, 8], 0, 8)).toBe("▁█·█");
  expect(sparkline([5, 5], 5, 5)).toBe("▁▁");
});
