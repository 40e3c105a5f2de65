// SPDX-License-Identifier: Apache-2.0
/**
 * Where the detector of clock jumps has its clocks from: this machine's own for a program, what answers tell for a guest.
 */
import { expect, test } from "bun:test";
import { absent, type ProbeState } from "#health.ts";
import { defaultDetectorLimits } from "#monitor/detectors/limits.ts";
import type { TargetSnapshot } from "#monitor/snapshot.ts";
import { WatchedWorkload } from "#monitor/watchedWorkload.ts";

const startMs = 1_795_392_000_000;
const box = { pressure: null, availableBytes: null };

const target = (kind: "program" | "guest"): TargetSnapshot => ({
  ...{ workload: "w", kind, threads: [] },
  process: absent("not of this test"),
  controlGroup: absent("not of this test"),
  counters: { workload: "w", atMs: 0, threads: 0, readings: [], exits: absent("not of this test") },
});

/** Looks once a second; gives what is raised, with the second. `wall` and `boot` in seconds since the start. */
function raisedBy(kind: "program" | "guest", clocks: readonly { wall: number; boot: number; told?: number }[]) {
  const watched = new WatchedWorkload("w");
  // A probe may answer before it is known what it asks.
  const probe: ProbeState = {
    probe: "tcp:1",
    state: "passing",
    failuresInRow: 0,
    failures: 0,
    lastMs: 1,
    why: null,
    answerMs: 1,
  };
  watched.probed(probe);
  watched.begin(kind, 1);
  return clocks.flatMap(({ wall, boot, told }, second) => {
    if (told !== undefined) watched.clockTold({ peerMs: startMs + told * 1000, monotonicMs: second * 1000 });
    const times = { atMs: startMs + wall * 1000, monotonicNs: second * 1e9, bootMs: boot * 1000 };
    return watched
      .take(target(kind), times, box, defaultDetectorLimits)
      .filter(({ kind: news, detector }) => news === "raised" && detector === "clockJump")
      .map(({ text }) => `${second}: ${text}`);
  });
}

test("a step of this machine's clock is a jump for its programs; time spent suspended, and slow correction, are none", () => {
  const even = Array.from({ length: 5 }, (_, second) => ({ wall: second, boot: second }));
  expect(raisedBy("program", even)).toEqual([]);
  const forward = even.map(({ wall, boot }, second) => ({ wall: second < 3 ? wall : wall + 3600, boot }));
  expect(raisedBy("program", forward)).toEqual(["3: its clock jumped forward by 3600.0 s"]);
  const back = even.map(({ wall, boot }, second) => ({ wall: second < 2 ? wall : wall - 10, boot }));
  expect(raisedBy("program", back)).toEqual(["2: its clock jumped back by 10.0 s"]);
  const suspended = even.map(({ wall, boot }, second) =>
    second < 3 ? { wall, boot } : { wall: wall + 500, boot: boot + 500 },
  );
  expect(raisedBy("program", suspended)).toEqual([]);
  expect(
    raisedBy(
      "program",
      even.map(({ wall, boot }) => ({ wall: wall * 1.0005, boot })),
    ),
  ).toEqual([]);
});

test("a guest that was probed before it was watched has the clock that its answers tell", () => {
  const told = [0, 1, 2, 2, 4, 105, 106].map((seconds, second) => ({ wall: second, boot: second, told: seconds }));
  expect(raisedBy("guest", told)).toEqual(["5: its clock jumped forward by 100.0 s"]);
  const silent = [0, 1, 2].map((second) => ({ wall: second * 1000, boot: second }));
  expect(raisedBy("guest", silent)).toEqual([]);
});
