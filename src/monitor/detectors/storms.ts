// SPDX-License-Identifier: Apache-2.0
/**
 * Detectors of too much of something: thrash, exit storm, fault storm, pressure. Pure functions over the history of one
 * workload. What they compare with is the workload's own past, never another machine's.
 */
import type { CounterEvent } from "#health.ts";
import { type Frame, lastFrames, rate, spanMs } from "./frame.ts";
import type { Detector } from "./work.ts";

/** The usual is what was before the window, if it lasted at least so long. */
const usualMsMin = 120_000;
/** A workload that hardly runs has no instructions worth a ratio. */
const thrashShareMin = 0.2;

export const thrash: Detector = ({ frames }, limits) => {
  const window = lastFrames(frames, limits.thrashMs);
  const usual = frames.slice(0, frames.length - window.length);
  if (spanMs(window) < limits.thrashMs || spanMs(usual) < usualMsMin) return null;
  if ((rate(window, (frame) => frame.cpuSeconds) ?? 0) < thrashShareMin) return null;
  const [ipc, usualIpc] = [window, usual].map((part) => medianRatio(part, "instructions", "cycles"));
  const [misses, usualMisses] = [window, usual].map((part) => medianRatio(part, "cache_misses", "instructions"));
  if (ipc == null || usualIpc == null || misses == null || usualMisses == null) return null;
  if (ipc > limits.thrashIpcRatioMax * usualIpc || misses < limits.thrashMissRatioMin * usualMisses) return null;
  return {
    sinceMs: window[0]!.atMs,
    text: `instructions a cycle fell from ${usualIpc.toFixed(2)} to ${ipc.toFixed(2)} while cache misses rose`,
    evidence: { ipc, usualIpc, missesPerInstruction: misses, usualMissesPerInstruction: usualMisses },
  };
};

/** Seconds of the usual that are looked at, spread over all of them. */
const secondsMax = 100;

/** Median over the seconds of the ratio of two events; null where they are not counted. */
function medianRatio(frames: readonly Frame[], above: CounterEvent, below: CounterEvent): number | null {
  const ratios: number[] = [];
  for (const pair of pairsOf(frames)) {
    const [upper, lower] = [above, below].map((event) => rate(pair, (frame) => frame.counters[event]));
    if (upper != null && lower != null && lower > 0) ratios.push(upper / lower);
  }
  return median(ratios);
}

export const exitStorm: Detector = ({ frames }, limits) => {
  const window = lastFrames(frames, limits.exitStormMs);
  const usual = frames.slice(0, frames.length - window.length);
  if (spanMs(window) < limits.exitStormMs || spanMs(usual) < usualMsMin) return null;
  const rates = ratesOf(window, (frame) => frame.exits);
  const [now, before] = [Math.min(...rates), median(ratesOf(usual, (frame) => frame.exits))];
  if (rates.length === 0 || before === null) return null;
  if (now < limits.exitsPerSecondMin || now < limits.exitsRatioMin * before) return null;
  return {
    sinceMs: window[0]!.atMs,
    text: `its virtual processors leave the guest ${now.toFixed(0)} times a second, usually ${before.toFixed(0)} times`,
    evidence: { exitsPerSecond: now, usualExitsPerSecond: before, limit: limits.exitsPerSecondMin },
  };
};

export const faultStorm: Detector = ({ frames }, limits) => {
  const window = lastFrames(frames, limits.faultStormMs);
  const [first, last] = [window[0], window.at(-1)];
  const faults = first === undefined || last === undefined ? 0 : last.faults - first.faults;
  if (faults < limits.faultsMin) return null;
  const seconds = limits.faultStormMs / 1000;
  return {
    sinceMs: first!.atMs,
    text: `${faults} faults within ${seconds} s`,
    evidence: { faults, seconds, limit: limits.faultsMin },
  };
};

export const pressure: Detector = ({ frames }, limits) => {
  const found = [
    { resource: "memory" as const, least: limits.memoryFullMin, forMs: limits.memoryPressureMs },
    { resource: "io" as const, least: limits.ioFullMin, forMs: limits.ioPressureMs },
  ].map(({ resource, least, forMs }) => {
    const window = lastFrames(frames, forMs);
    const shares = window.map((frame) => frame.pressure?.[resource]?.full?.over10s ?? 0);
    const share = Math.min(...shares);
    if (spanMs(window) < forMs || share < least) return null;
    return {
      sinceMs: window[0]!.atMs,
      text: `everything waited for ${resource} at least ${(100 * share).toFixed(0)} % of the time for ${forMs / 1000} s`,
      evidence: { resource, leastShare: share, limit: least, seconds: forMs / 1000 },
    };
  });
  return found.find((each) => each !== null) ?? null;
};

const ratesOf = (frames: readonly Frame[], read: (frame: Frame) => number | null): number[] =>
  pairsOf(frames).flatMap((pair) => rate(pair, read) ?? []);

/** Frames beside each other. */
function pairsOf(frames: readonly Frame[]): (readonly Frame[])[] {
  const step = Math.max(1, Math.ceil(frames.length / secondsMax));
  const pairs: (readonly Frame[])[] = [];
  for (let index = 1; index < frames.length; index += step) pairs.push([frames[index - 1]!, frames[index]!]);
  return pairs;
}

export function median(values: readonly number[]): number | null {
  if (values.length === 0) return null;
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)]!;
}
