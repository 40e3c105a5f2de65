// SPDX-License-Identifier: Apache-2.0
/**
 * What the detectors look at: one frame a second for each workload, and one point a minute of its memory. Gets snapshots;
 * gives a bounded history. Totals are since the start of whatever they count; null is not known.
 */
import { type CounterEvent, type HostHealth, type Pressures, type ProbeState, seenOr } from "#health.ts";
import type { TargetSnapshot, ThreadLook } from "../snapshot.ts";

/** 15 minutes of seconds, two hours of minutes. */
export const framesMax = 900;
export const minutesMax = 120;
const minuteMs = 60_000;

export type Frame = {
  /** Wall clock and monotonic clock of the look. */
  readonly atMs: number;
  readonly monotonicMs: number;
  readonly kind: "program" | "guest";
  readonly cpuSeconds: number | null;
  readonly residentBytes: number | null;
  readonly ioBytes: number | null;
  readonly threadCount: number | null;
  readonly openFiles: number | null;
  /** Those that were busy. */
  readonly threads: readonly ThreadLook[];
  readonly counters: Readonly<Partial<Record<CounterEvent, number>>>;
  /** Memory that is left for it: of its control group, or of the box. */
  readonly leftBytes: number | null;
  /** Exits of virtual processors. */
  readonly exits: number | null;
  /** Fatal signals of the workload that Holdfast worked on. */
  readonly faults: number;
  /** Of its control group; of the box where that has none. */
  readonly pressure: Pressures | null;
  readonly probes: readonly Pick<ProbeState, "probe" | "state" | "failuresInRow" | "lastMs" | "why">[];
  /** The workload's own wall clock, where a probe has told it. */
  readonly peerClock: { readonly peerMs: number; readonly monotonicMs: number } | null;
};

/** Least resident bytes of one minute: what the peaks of requests add does not count. */
export type MinutePoint = { readonly atMs: number; readonly residentBytes: number };

export type History = { readonly frames: readonly Frame[]; readonly minutes: readonly MinutePoint[] };
export const emptyHistory: History = { frames: [], minutes: [] };

export type FrameFacts = Pick<Frame, "atMs" | "monotonicMs" | "faults" | "probes" | "peerClock"> & {
  readonly box: { readonly pressure: Pressures | null; readonly availableBytes: number | null };
};

/** What a frame takes from the box, where its control group does not tell. */
export const boxFacts = (host: HostHealth | null): FrameFacts["box"] => ({
  pressure: host === null ? null : seenOr(host.pressure, null),
  availableBytes: host === null ? null : (seenOr(host.memory, null)?.availableBytes ?? null),
});

export function frameOf(target: TargetSnapshot, facts: FrameFacts): Frame {
  const running = seenOr(target.process, null);
  const exits = seenOr(target.counters.exits, null);
  const { box, ...shared } = facts;
  const group = seenOr(target.controlGroup, null);
  const own =
    group?.memoryBytesMax == null || group.memoryBytes === null ? null : group.memoryBytesMax - group.memoryBytes;
  return {
    ...shared,
    kind: target.kind,
    cpuSeconds: running?.cpuSeconds ?? null,
    residentBytes: running?.residentBytes ?? null,
    ioBytes: running?.ioBytes ?? null,
    threadCount: running?.threads ?? null,
    openFiles: running?.openFiles ?? null,
    threads: target.threads.filter(({ switches }) => switches !== null),
    counters: Object.fromEntries(
      target.counters.readings.flatMap(({ event, total }) => (total === null ? [] : [[event, total]])),
    ),
    exits: exits?.exits ?? target.counters.readings.find(({ event }) => event === "kvm_exits")?.total ?? null,
    pressure: group?.pressure.memory == null ? box.pressure : group.pressure,
    leftBytes: own === null ? box.availableBytes : Math.min(own, box.availableBytes ?? own),
  };
}

/** The history with one more frame; what is too old goes. */
export function withFrame(history: History, frame: Frame): History {
  const frames = [...history.frames.slice(-(framesMax - 1)), frame];
  if (frame.residentBytes === null) return { frames, minutes: history.minutes };
  const startMs = Math.floor(frame.atMs / minuteMs) * minuteMs;
  const last = history.minutes.at(-1);
  const same = last !== undefined && last.atMs === startMs;
  const residentBytes = same ? Math.min(last.residentBytes, frame.residentBytes) : frame.residentBytes;
  const before = same ? history.minutes.slice(0, -1) : history.minutes.slice(-(minutesMax - 1));
  return { frames, minutes: [...before, { atMs: startMs, residentBytes }] };
}

/** The frames of the last `lengthMs`, and the one just before them, so that they span at least that long. */
export function lastFrames(frames: readonly Frame[], lengthMs: number): readonly Frame[] {
  const last = frames.at(-1);
  if (last === undefined) return [];
  const fromMs = last.monotonicMs - lengthMs;
  let index = frames.length - 1;
  while (index > 0 && frames[index]!.monotonicMs > fromMs) index -= 1;
  return frames.slice(index);
}

/** Time from the first to the last frame. */
export const spanMs = (frames: readonly Frame[]): number =>
  frames.length === 0 ? 0 : frames.at(-1)!.monotonicMs - frames[0]!.monotonicMs;

/** Growth of a total a second; null where either end is not known, nothing lies between, or it began anew. */
export function rate(frames: readonly Frame[], read: (frame: Frame) => number | null | undefined): number | null {
  const [first, last] = [frames[0], frames.at(-1)];
  const seconds = spanMs(frames) / 1000;
  if (first === undefined || last === undefined || seconds <= 0) return null;
  const [from, to] = [read(first), read(last)];
  return from == null || to == null || to < from ? null : (to - from) / seconds;
}
