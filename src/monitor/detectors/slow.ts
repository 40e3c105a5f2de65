// SPDX-License-Identifier: Apache-2.0
/**
 * Detectors of what comes slowly or from elsewhere: leak, failing probe, jump of a clock. Pure functions over the history of
 * one workload.
 */
import type { Trend } from "#health.ts";
import { theilSen } from "../health/theilSen.ts";
import type { MinutePoint } from "./frame.ts";
import type { Detector } from "./work.ts";

const hourMs = 3_600_000;

/** The trend of the least resident memory of each minute; null for fewer than three minutes. */
export function leakTrend(minutes: readonly MinutePoint[]): Trend | null {
  const slope = theilSen(
    minutes.map(({ atMs }) => atMs / hourMs),
    minutes.map(({ residentBytes }) => residentBytes),
  );
  if (slope === null) return null;
  return { perHour: slope.slope, perHourMin: slope.slopeMin, perHourMax: slope.slopeMax, points: slope.points };
}

/**
 * It grew in each third of two hours at nearly the same pace, and at that pace the memory that is left ends within days. A
 * cache that fills, or the ebb and flow of a day, does one of the two at most.
 */
export const leak: Detector = ({ minutes, frames }, limits) => {
  const leftBytes = frames.at(-1)?.leftBytes ?? null;
  if (minutes.length < limits.leakPointsMin || leftBytes === null) return null;
  const [first, last] = [minutes[0]!, minutes.at(-1)!];
  const grownBytes = last.residentBytes - first.residentBytes;
  const whole = leakTrend(minutes);
  if (grownBytes < limits.leakBytesMin || whole === null || whole.perHourMin <= 0) return null;
  const third = Math.ceil(minutes.length / 3);
  const thirds = [0, 1, 2].map((part) => leakTrend(minutes.slice(part * third, (part + 1) * third))?.perHour ?? 0);
  const steady = thirds.every((perHour) => perHour > whole.perHour / 2 && perHour < whole.perHour * 2);
  const hoursLeft = leftBytes / whole.perHour;
  if (!steady || hoursLeft > limits.leakHoursLeftMax) return null;
  const mebibytes = (bytes: number): string => (bytes / 2 ** 20).toFixed(1);
  return {
    sinceMs: first.atMs,
    text: `its memory grows by ${mebibytes(whole.perHour)} MiB an hour; what is left lasts ${hoursLeft.toFixed(0)} hours`,
    evidence: {
      ...{ bytesPerHour: Math.round(whole.perHour), bytesPerHourMin: Math.round(whole.perHourMin) },
      ...{ grownBytes, residentBytes: last.residentBytes, leftBytes, hoursLeft, minutes: minutes.length },
    },
  };
};

export const probeFailing: Detector = ({ frames }) => {
  const last = frames.at(-1);
  const failing = last?.probes.filter(({ state }) => state === "failing") ?? [];
  const [first] = failing;
  if (last === undefined || first === undefined) return null;
  const since = frames.find((frame) =>
    frame.probes.some((each) => each.probe === first.probe && each.failuresInRow > 0),
  );
  return {
    sinceMs: since?.atMs ?? last.atMs,
    text: `${first.why ?? first.probe} (${first.failuresInRow} times in a row)`,
    evidence: { probe: first.probe, failuresInRow: first.failuresInRow, failing: failing.length },
  };
};

/** Its wall clock against our monotonic one, over two readings. */
export const clockJump: Detector = ({ frames }, limits) => {
  const last = frames.findLast(({ peerClock }) => peerClock !== null)?.peerClock;
  if (last == null) return null;
  const before = frames.findLast(({ peerClock }) => peerClock !== null && peerClock.monotonicMs !== last.monotonicMs);
  if (before === undefined) return null;
  const jumpMs = last.peerMs - last.monotonicMs - (before.peerClock!.peerMs - before.peerClock!.monotonicMs);
  if (Math.abs(jumpMs) < limits.clockJumpMs) return null;
  return {
    sinceMs: before.atMs,
    text: `its clock jumped ${jumpMs > 0 ? "forward" : "back"} by ${(Math.abs(jumpMs) / 1000).toFixed(1)} s`,
    evidence: { jumpMs: Math.round(jumpMs), limitMs: limits.clockJumpMs },
  };
};
