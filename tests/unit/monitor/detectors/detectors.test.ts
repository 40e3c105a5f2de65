// SPDX-License-Identifier: Apache-2.0
/** Each detector finds its trouble, with its evidence, in time; and says nothing where one of its conditions is not met. */
import { describe, expect, test } from "bun:test";
import type { Detection, DetectorName, Pressures } from "#health.ts";
import { detect, newBank } from "#monitor/detectors/bank.ts";
import {
  emptyHistory,
  type Frame,
  framesMax,
  lastFrames,
  minutesMax,
  rate,
  spanMs,
  withFrame,
} from "#monitor/detectors/frame.ts";
import { type DetectorLimits, defaultDetectorLimits } from "#monitor/detectors/limits.ts";

const limits = defaultDetectorLimits;
const startMs = 1_700_000_000_000;
const mebibyte = 2 ** 20;

/** A quiet second. */
const quiet = (second: number): Frame => ({
  ...{ atMs: startMs + second * 1000, monotonicMs: second * 1000, kind: "program", cpuSeconds: second * 0.01 },
  ...{ residentBytes: 50 * mebibyte, ioBytes: second * 100, threadCount: 1, openFiles: 9, threads: [], counters: {} },
  ...{ leftBytes: 1024 * mebibyte, exits: null, faults: 0, pressure: null, probes: [], peerClock: null },
});

/** Detections of `seconds` seconds, each made by `make` from a quiet one. */
function run(
  seconds: number,
  make: (second: number) => Partial<Frame>,
  own: Partial<DetectorLimits> = {},
): Detection[] {
  let [history, bank] = [emptyHistory, newBank];
  const told: Detection[] = [];
  for (let second = 0; second < seconds; second += 1) {
    history = withFrame(history, { ...quiet(second), ...make(second) });
    const { state, news } = detect(bank, "shop", history, { ...limits, ...own });
    bank = state;
    told.push(...news);
  }
  return told;
}
const raised = (told: readonly Detection[]): DetectorName[] =>
  told.filter(({ kind }) => kind === "raised").map(({ detector }) => detector);
const busy = (cpuSeconds: number, voluntary: number) => ({
  threads: [{ tid: 7, name: "worker", state: "R", cpuSeconds, switches: { voluntary, forced: 1 } }],
  cpuSeconds,
});
const probe = (second: number, failuresInRow: number): Pick<Frame, "probes"> => ({
  probes: [
    {
      probe: "tcp:1",
      state: failuresInRow >= 3 ? "failing" : "passing",
      failuresInRow,
      lastMs: startMs + second * 1000,
      why: failuresInRow === 0 ? null : "refused",
    },
  ],
});

describe("hang", () => {
  /** Serves for a minute, then spins: on an overloaded machine a fifth of a processor is all that a thread gets. */
  const spins = (second: number, share = 0.2): Partial<Frame> =>
    second < 60 ? busy(second * 0.3, second * 100) : busy(18 + (second - 60) * share, 6_000);

  test.each([2_000, 5_000, 10_000, 30_000])(
    "is found within 2 s of a limit of %p ms, also at a fifth of a processor",
    (hangMs) => {
      for (const share of [0.2, 1]) {
        const found = run(120, (second) => spins(second, share), { hangMs }).filter(({ kind }) => kind === "raised");
        expect(found.map(({ detector }) => detector)).toEqual(["hang"]);
        const lateMs = found[0]!.atMs - (startMs + 60_000) - hangMs;
        expect(lateMs).toBeWithin(-1_000, 2_000);
        expect(found[0]!.evidence).toMatchObject({ tid: 7, voluntarySwitches: 0, limitSeconds: hangMs / 1000 });
      }
    },
  );
  test("a probe that passes since speaks against it, one that does not speaks for it", () => {
    expect(raised(run(120, (second) => ({ ...spins(second), ...probe(second, 0) })))).toEqual([]);
    expect(raised(run(120, (second) => ({ ...spins(second), ...probe(second, second < 60 ? 0 : 1) })))).toEqual([
      "hang",
    ]);
  });
  test("a guest's processors may compute for hours: only a probe tells", () => {
    expect(raised(run(120, (second) => ({ ...spins(second), kind: "guest" })))).toEqual([]);
    expect(
      raised(run(120, (second) => ({ ...spins(second), kind: "guest", ...probe(second, second < 60 ? 0 : 1) }))),
    ).toEqual(["hang"]);
  });
  test("one wait in the middle begins the time anew; it is over once the thread waits again", () => {
    const told = run(100, (second) => busy(second, second < 50 ? Math.floor(second / 9) : 6 + second));
    expect(told).toEqual([]);
    const ended = run(120, (second) => (second < 90 ? spins(second) : busy(26 + second, 6_000 + second)));
    expect(ended.map(({ kind }) => kind)).toEqual(["raised", "cleared"]);
  });
});

test("livelock: works and switches all the time, and nothing comes of it", () => {
  const busySecond = (second: number): Partial<Frame> => ({
    cpuSeconds: second,
    counters: { context_switches: second * (second < 100 ? 50 : 5_000) - (second < 100 ? 0 : 495_000) },
    ioBytes: second < 100 ? second * 1_000 : 100_000,
  });
  expect(raised(run(140, busySecond))).toEqual(["livelock"]);
  expect(raised(run(140, (second) => ({ ...busySecond(second), ioBytes: second * 1_000 })))).toEqual([]);
  expect(raised(run(140, (second) => ({ ...busySecond(second), ioBytes: 0 })))).toEqual([]);
  expect(raised(run(140, (second) => ({ ...busySecond(second), ...probe(second, 0) })))).toEqual([]);
});

test("thrash: instructions a cycle collapse while misses rise; one of the two alone is another phase", () => {
  const counters = (second: number, ipc: number, misses: number): Partial<Frame> => {
    const [calm, bad] = [Math.min(second, 300), Math.max(0, second - 300)];
    return {
      cpuSeconds: second,
      counters: {
        cycles: second * 1e9,
        instructions: calm * 1.5e9 + bad * ipc * 1e9,
        cache_misses: calm * 1.5e6 + bad * ipc * misses * 1e6,
      },
    };
  };
  expect(raised(run(340, (second) => counters(second, 0.4, 9)))).toEqual(["thrash"]);
  expect(raised(run(340, (second) => counters(second, 0.4, 1)))).toEqual([]);
  expect(raised(run(340, (second) => counters(second, 1.4, 9)))).toEqual([]);
  expect(raised(run(340, (second) => ({ ...counters(second, 0.4, 9), cpuSeconds: 0.01 * second })))).toEqual([]);
  expect(raised(run(340, () => ({ counters: {} })))).toEqual([]);
});

test("exit storm: many more exits than usual, and many in themselves", () => {
  const exits =
    (usual: number, storm: number) =>
    (second: number): Partial<Frame> => ({
      exits: Math.min(second, 200) * usual + Math.max(0, second - 200) * storm,
    });
  expect(raised(run(230, exits(3_000, 400_000)))).toEqual(["exitStorm"]);
  expect(raised(run(230, exits(3_000, 60_000)))).toEqual([]);
  expect(raised(run(230, exits(150_000, 400_000)))).toEqual([]);
});

test("fault storm: ten within a minute, not ten within an hour", () => {
  expect(raised(run(100, (second) => ({ faults: Math.floor(second / 5) })))).toEqual(["faultStorm"]);
  expect(raised(run(3_600, (second) => ({ faults: Math.floor(second / 300) })))).toEqual([]);
});

test("pressure: everything waits for memory, for long enough", () => {
  const full = (share: number): Pressures => {
    const line = { over10s: share, over60s: 0, over300s: 0, stalledSeconds: 0 };
    return { cpu: null, io: null, memory: { some: line, full: line } };
  };
  const [found] = run(60, () => ({ pressure: full(0.3) }));
  expect(found).toMatchObject({ detector: "pressure", evidence: { resource: "memory", leastShare: 0.3 } });
  expect(run(60, (second) => ({ pressure: full(second % 15 === 0 ? 0.05 : 0.9) }))).toEqual([]);
});

test("probe failing: told once, with its reason, and once when it is over", () => {
  const told = run(60, (second) => probe(second, second < 10 || second > 30 ? 0 : second - 9));
  expect(told.map(({ detector, kind }) => `${detector} ${kind}`)).toEqual([
    "probeFailing raised",
    "probeFailing cleared",
  ]);
  expect(told[0]!.text).toContain("refused");
  expect((told[0]!.sinceMs - startMs) / 1000).toBe(10);
});

test("clock jump: forward and back, but not by the grain of whole seconds", () => {
  const clock = (second: number, jumpMs: number): Partial<Frame> => ({
    peerClock: {
      monotonicMs: Math.floor(second / 5) * 5_000,
      peerMs: startMs + Math.floor(second / 5) * 5_000 + (second < 30 ? 0 : jumpMs),
    },
  });
  expect(run(40, (second) => clock(second, 3_600_000))[0]?.evidence).toMatchObject({ jumpMs: 3_600_000 });
  expect(raised(run(40, (second) => clock(second, -5_000)))).toEqual(["clockJump"]);
  expect(raised(run(40, (second) => clock(second, 1_500)))).toEqual([]);
});

describe("leak", () => {
  const minutes = (grow: (minute: number) => number, leftBytes = 512 * mebibyte) =>
    run(7_200, (second) => ({ residentBytes: (50 + grow(second / 60)) * mebibyte, leftBytes }));
  test("a steady growth that will not end well", () => {
    const [found] = minutes((minute) => minute * 0.5 + (minute % 1 > 0.5 ? 30 : 0));
    expect(found).toMatchObject({ detector: "leak", kind: "raised" });
    expect(found!.evidence.bytesPerHour as number).toBeWithin(28 * mebibyte, 32 * mebibyte);
  });
  test("a cache that fills, a step, a saw, and growth with room for a year", () => {
    expect(minutes((minute) => Math.min(60, minute * 2))).toEqual([]);
    expect(minutes((minute) => (minute > 60 ? 100 : 0))).toEqual([]);
    expect(minutes((minute) => (minute % 20) * 3)).toEqual([]);
    expect(minutes((minute) => minute * 0.5, 400_000 * mebibyte)).toEqual([]);
  });
});

test("a detector that is switched off says nothing", () => {
  expect(run(100, (second) => ({ faults: second }), { off: ["faultStorm"] })).toEqual([]);
});

test("the history is bounded, and totals that begin anew have no rate", () => {
  let history = emptyHistory;
  for (let second = 0; second < 10_000; second += 1) history = withFrame(history, quiet(second));
  expect(history.frames.length).toBe(framesMax);
  expect(history.minutes.length).toBe(minutesMax);
  expect(spanMs(lastFrames(history.frames, 5_500))).toBe(6_000);
  expect(lastFrames([], 5)).toEqual([]);
  expect(rate([{ ...quiet(1), faults: 9 }, quiet(2)], (frame) => frame.faults)).toBeNull();
  expect(rate([quiet(1), quiet(1)], (frame) => frame.faults)).toBeNull();
});
