// SPDX-License-Identifier: Apache-2.0
/**
 * Where a fault happened, in a form that survives address randomisation, restarts and other boxes with the same build.
 *
 * Gets the frames of a stopped thread; gives a Site. An abort has the site of the caller of the chain that never
 * returns: all assertions of a program share one raise, and "same site" must not blame them for one another.
 */
import { callingConvention } from "#binary/callingConvention.ts";
import { endsProgram } from "#binary/programEnders.ts";
import type { Architecture, FaultReport, FaultSignal, Frame, ModuleReference, Site } from "#fault.ts";

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

/**
 * What the thread was at when it faulted: the callee-saved registers of the frames between the nearest interface frame and
 * the first one of the spine. They hold what the program's loops hold of the work at hand, so they differ from one piece
 * of work to the next and are equal where the same piece is tried again.
 */
export function workOf({ frames, spine, signal, architecture }: FaultReport): string {
  const innermost = faultingFrame(frames, spine, signal);
  const from = Math.max(interfaceFrame(frames, spine, innermost), innermost) + 1;
  const holders = frames.slice(from, Math.max(from, workFrames(frames, spine)) + 1);
  const { calleeSaved } = callingConvention[architecture];
  const held = holders.map(({ registers }) => calleeSaved.map((register) => registers[register]?.toString(16) ?? "-"));
  return Bun.hash.xxHash3(held.join()).toString(36);
}

/** Whether returning from frame `index` leads to code that can go on, with a known stack. */
export function canAbandon(frames: readonly Frame[], index: number): boolean {
  const frame = frames[index];
  return frame !== undefined && index + 1 < frames.length && frame.cfa !== null && frame.afterCall !== "never";
}

/** Whether all registers are known that the code relies on to which frame `index` returns. */
export function isWhole(frames: readonly Frame[], index: number, architecture: Architecture): boolean {
  const caller = frames[index + 1];
  return callingConvention[architecture].calleeSaved.every((register) => caller?.registers[register] != null);
}

/** `buildId+offset` of the program counter of a frame; the path stands in for a missing build-id. */
export function placeOf(frame: Frame, modules: readonly ModuleReference[]): string {
  const module = frame.module === null ? undefined : modules[frame.module];
  if (module === undefined) return "anonymous";
  return `${module.buildId === "" ? module.path : module.buildId}+0x${frame.offset.toString(16)}`;
}

/** A loop is wherever it was stopped: what stays the same is the function that it is in. */
const wholeOf = (frame: Frame): Frame => ({ ...frame, offset: frame.functionStart ?? frame.offset });

/** A program counter in no file says nothing of where the error is: all null calls are equal. Its caller's place does. */
function callerOfNowhere(frames: readonly Frame[], at: number): number {
  const inFile = frames.findIndex((frame, index) => index >= at && frame.module !== null);
  return inFile < 0 ? at : inFile;
}

export function siteOf(
  frames: readonly Frame[],
  modules: readonly ModuleReference[],
  spine: number | null,
  signal: FaultSignal,
): Site {
  const at = faultingFrame(frames, spine, signal);
  const boundary = interfaceFrame(frames, spine, at);
  const faulting = frames[callerOfNowhere(frames, at)];
  return {
    fault: faulting === undefined ? "unknown" : placeOf(signal === "SIGSTOP" ? wholeOf(faulting) : faulting, modules),
    boundary: boundary < 0 ? "" : placeOf(frames[boundary + 1]!, modules),
  };
}
