// SPDX-License-Identifier: Apache-2.0
/**
 * Where a fault happened, in a form that survives address randomisation, restarts and other boxes with the same build.
 *
 * Gets the frames of a stopped thread; gives a Site. An abort has the site of the caller of the chain that never
 * returns: all assertions of a program share one raise, and "same site" must not blame them for one another.
 */
import { endsProgram } from "#binary/programEnders.ts";
import type { FaultSignal, Frame, ModuleReference, Site } from "#fault.ts";

/** Frames above the spine: those that belong to the work at hand. Pure. */
export function workFrames(frames: readonly Frame[], spine: number | null): number {
  return spine ?? frames.length;
}

/**
 * Index of the frame in which the program met its error. 0 for a fault of the processor; for an abort the first frame
 * outside the chain of calls that never return, which can be the innermost spine frame itself.
 */
export function faultingFrame(frames: readonly Frame[], spine: number | null, signal: FaultSignal): number {
  const limit = Math.min(workFrames(frames, spine), frames.length - 1);
  let found = 0;
  for (let index = 0; index < limit; index += 1) {
    if (frames[index]!.afterCall === "never") found = index + 1;
    if (isInterface(frames[index]!) && (signal !== "SIGABRT" || found > 0)) break;
  }
  return signal === "SIGABRT" ? Math.max(found, outsideOfEnd(frames, spine, limit)) : found;
}

/**
 * The way to an abort can lead through pointers (C++: a terminate handler, a personality routine). Where the spine is
 * known, all that never returns above it is that way; else it is told by name, because main loops never return either.
 */
function outsideOfEnd(frames: readonly Frame[], spine: number | null, limit: number): number {
  const isEnd = ({ afterCall, symbol }: Frame): boolean =>
    (spine !== null && afterCall === "never") || endsProgram(symbol);
  return frames.slice(0, limit).findLastIndex(isEnd) + 1;
}

/** Entered through a pointer: by the program, or by the kernel, to which the program gave a signal handler. */
const isInterface = ({ enteredBy }: Frame): boolean => enteredBy === "pointer" || enteredBy === "signal";

/** The nearest frame, from `from` outwards, that was entered through a pointer and lies above the spine; -1: none. */
export function interfaceFrame(frames: readonly Frame[], spine: number | null, from: number): number {
  const limit = workFrames(frames, spine);
  for (let index = from; index < limit && index + 1 < frames.length; index += 1) {
    if (canAbandon(frames, index) && isInterface(frames[index]!)) return index;
  }
  return -1;
}

/** Whether returning from frame `index` leads to code that can go on, with a known stack. */
export function canAbandon(frames: readonly Frame[], index: number): boolean {
  const frame = frames[index];
  return frame !== undefined && index + 1 < frames.length && frame.cfa !== null && frame.afterCall !== "never";
}

/** `buildId+offset` of the program counter of a frame; the path stands in for a missing build-id. */
export function placeOf(frame: Frame, modules: readonly ModuleReference[]): string {
  const module = frame.module === null ? undefined : modules[frame.module];
  if (module === undefined) return "anonymous";
  return `${module.buildId === "" ? module.path : module.buildId}+0x${frame.offset.toString(16)}`;
}

export function siteOf(
  frames: readonly Frame[],
  modules: readonly ModuleReference[],
  spine: number | null,
  signal: FaultSignal,
): Site {
  const at = faultingFrame(frames, spine, signal);
  const boundary = interfaceFrame(frames, spine, at);
  const faulting = frames[at];
  return {
    fault: faulting === undefined ? "unknown" : placeOf(faulting, modules),
    boundary: boundary < 0 ? "" : placeOf(frames[boundary + 1]!, modules),
  };
}
