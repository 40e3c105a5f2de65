// SPDX-License-Identifier: Apache-2.0
/**
 * Detectors of work that goes nowhere: hang and livelock. Pure functions over the history of one workload.
 *
 * A hang is a thread that works and has not waited for anything, not once, for the limit: a server's thread comes back to
 * wait for work. Long computation looks the same, so a probe that has passed since speaks against it, and for a guest,
 * whose virtual processors may compute for hours, a probe must speak for it. Source of the switches: proc(5), `status`.
 */
import { type Frame, type History, lastFrames, rate, spanMs } from "./frame.ts";
import type { DetectorLimits } from "./limits.ts";

/** What a detector has found; null where there is nothing. */
export type Finding = {
  readonly sinceMs: number;
  readonly text: string;
  readonly evidence: Readonly<Record<string, number | string>>;
} | null;
export type Detector = (history: History, limits: DetectorLimits) => Finding;

export const hang: Detector = ({ frames }, limits) => {
  const last = frames.at(-1);
  if (last === undefined) return null;
  for (const thread of last.threads) {
    const spin = spinOf(frames, thread.tid, limits.hangShareMin);
    if (spin === null || spanMs(spin) < limits.hangMs) continue;
    const sinceMs = spin[0]!.atMs;
    if (probed(last, sinceMs) === "good" || (last.kind === "guest" && probed(last, sinceMs) !== "bad")) continue;
    const seconds = spanMs(spin) / 1000;
    const used = rate(spin, (frame) => cpuOf(frame, thread.tid)) ?? 0;
    return {
      sinceMs,
      text: `thread ${thread.tid} (${thread.name}) has worked for ${seconds.toFixed(0)} s without waiting once`,
      evidence: {
        ...{ tid: thread.tid, thread: thread.name, seconds, processorShare: rounded(used), voluntarySwitches: 0 },
        ...{ limitSeconds: limits.hangMs / 1000, probes: probed(last, sinceMs) },
      },
    };
  }
  return null;
};

/** The last frames through which this thread worked and never waited; null where it waits now. */
function spinOf(frames: readonly Frame[], tid: number, shareMin: number): readonly Frame[] | null {
  const switches = lookAt(frames.at(-1)!, tid)?.switches?.voluntary;
  if (switches === undefined) return null;
  let from = frames.length - 1;
  for (; from > 0; from -= 1) {
    const [before, after] = [lookAt(frames[from - 1]!, tid), lookAt(frames[from]!, tid)];
    if (before === undefined || after === undefined) break;
    const known = before.switches?.voluntary;
    if (known !== undefined && known !== switches) break;
    const seconds = (frames[from]!.monotonicMs - frames[from - 1]!.monotonicMs) / 1000;
    if (after.cpuSeconds - before.cpuSeconds < shareMin * seconds) break;
    // Its switches were not read then: it hardly worked in that second.
    if (known === undefined) break;
  }
  return frames.slice(from);
}

export const livelock: Detector = ({ frames }, limits) => {
  const window = lastFrames(frames, limits.livelockMs);
  if (spanMs(window) < limits.livelockMs) return null;
  const [first, last] = [window[0]!, window.at(-1)!];
  const work = rate(window, (frame) => frame.cpuSeconds);
  const switches = rate(window, (frame) => frame.counters.context_switches);
  if (work === null || work < 0.5 || switches === null || switches < limits.livelockSwitchesMin) return null;
  // Every second must be like that, or a burst at the end would count for all.
  const steady = window.every((frame, index) => {
    const own = index === 0 ? null : rate([window[index - 1]!, frame], (each) => each.counters.context_switches);
    return index === 0 || (own !== null && own >= limits.livelockSwitchesMin / 2);
  });
  const judged = probed(last, first.atMs);
  const io = rate(window, (frame) => frame.ioBytes);
  const moved = io !== null && movedBefore(frames);
  const stuck = judged === "bad" || (judged === "none" && moved && io === 0);
  if (!steady || !stuck) return null;
  return {
    sinceMs: first.atMs,
    text: `it works (${work.toFixed(1)} processors, ${switches.toFixed(0)} switches a second) and gets nothing done`,
    evidence: {
      processors: rounded(work),
      switchesPerSecond: rounded(switches),
      ioBytesPerSecond: io ?? "not known",
      probes: judged,
    },
  };
};

/** Whether this program's bytes are seen to move at all: many use calls that are not accounted. */
const movedBefore = (frames: readonly Frame[]): boolean => (rate(frames, (frame) => frame.ioBytes) ?? 0) > 0;

/** What the probes have said since: `good` where one passed, `bad` where they were asked and none did. */
export function probed(last: Frame, sinceMs: number): "good" | "bad" | "none" {
  const since = last.probes.filter(({ lastMs }) => lastMs !== null && lastMs >= sinceMs);
  if (since.some(({ failuresInRow }) => failuresInRow === 0)) return "good";
  return since.length === 0 ? (last.probes.length === 0 ? "none" : "bad") : "bad";
}

const lookAt = (frame: Frame, tid: number): Frame["threads"][number] | undefined =>
  frame.threads.find((thread) => thread.tid === tid);
const cpuOf = (frame: Frame, tid: number): number | null => lookAt(frame, tid)?.cpuSeconds ?? null;
const rounded = (value: number): number => Math.round(value * 1000) / 1000;
