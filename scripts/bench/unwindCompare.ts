// SPDX-License-Identifier: Apache-2.0
/**
 * Compares our unwinder with gdb on the same registers and the same stack bytes. Gets samples, gives counts and mismatches.
 *
 * A frame is equal when its pc, its stack pointer and all callee-saved registers that both know are equal. Limit: listed
 * mismatches.
 */

import { callingConvention } from "#binary/callingConvention.ts";
import type { CodeMap } from "#binary/codeMap.ts";
import type { ReadMemory } from "#binary/stackWindow.ts";
import { unwind, unwindBlocked } from "#binary/unwind.ts";
import type { Unwinding } from "#binary/unwindTypes.ts";
import { fromHex, toHex } from "#bytes.ts";
import { address } from "#fault.ts";
import type { MemoryRange, Sample, Sampled } from "./gdbSampler.ts";

export type Comparison = {
  stacks: number;
  /** Stacks with different return addresses, by content. */
  readonly distinct: Set<string>;
  outermost: number;
  /** Stacks that gdb itself did not follow to their end; only counted, since there is nothing to compare with. */
  gdbLost: number;
  /** Of those, the ones that we followed to their end. */
  gdbLostOutermost: number;
  frames: number;
  equalFrames: number;
  registers: number;
  equalRegisters: number;
  signalFrames: number;
  deepest: number;
  /** Stacks of threads inside a system call, unwound from pc and stack pointer alone. */
  readonly blocked: BlockedComparison;
  readonly mismatches: string[];
};

export type BlockedComparison = {
  stacks: number;
  frames: number;
  equalFrames: number;
  /** Frames said to be certain, and those of them that are wrong. */
  certainFrames: number;
  wrongCertainFrames: number;
};

const mismatchesMax = 200;
const frameLimit = 2_000;

export const emptyComparison = (): Comparison => ({
  stacks: 0,
  distinct: new Set(),
  outermost: 0,
  gdbLost: 0,
  gdbLostOutermost: 0,
  frames: 0,
  equalFrames: 0,
  registers: 0,
  equalRegisters: 0,
  signalFrames: 0,
  deepest: 0,
  blocked: { stacks: 0, frames: 0, equalFrames: 0, certainFrames: 0, wrongCertainFrames: 0 },
  mismatches: [],
});

export const number64 = (text: string): bigint => BigInt(`0x${text}`);

/** A reader over the stack bytes of a sample, and nothing else. */
export function stackReader(sample: Sample, constant: readonly MemoryRange[] = []): ReadMemory {
  const stack = sample.memory.map(({ from, bytes }) => ({ from: number64(from), bytes: fromHex(bytes) }));
  const ranges = [...stack, ...constant];
  return (at, lengthBytes) => {
    const end = at + BigInt(lengthBytes);
    const range = ranges.find(({ from, bytes }) => from < end && at < from + BigInt(bytes.length));
    if (range === undefined) return new Uint8Array();
    // The window asks by page; a sample begins at any address, so the part before it is filled with zero.
    const inside = Number(at - range.from);
    if (inside >= 0) return range.bytes.subarray(inside, inside + lengthBytes);
    const padded = new Uint8Array(Math.min(lengthBytes, range.bytes.length - inside));
    padded.set(range.bytes.subarray(0, padded.length + inside), -inside);
    return padded;
  };
}

export function unwindSample(sample: Sample, { codeMap, constant }: Sampled): Unwinding {
  return unwind(sample.registers.map(number64), stackReader(sample, constant), codeMap, frameLimit);
}

export function compare(sample: Sample, sampled: Sampled, into: Comparison): void {
  const { codeMap } = sampled;
  const ours = unwindSample(sample, sampled);
  const theirs = sample.frames;
  into.stacks += 1;
  into.distinct.add(theirs.map((frame) => frame.pc).join(" "));
  into.deepest = Math.max(into.deepest, ours.frames.length);
  if (sample.reason !== "outermost" && sample.reason !== "limit") {
    into.gdbLost += 1;
    if (ours.end === "outermost") into.gdbLostOutermost += 1;
    return;
  }
  if (ours.end === "outermost") into.outermost += 1;
  const { names, calleeSaved, sp } = callingConvention[codeMap.architecture];
  for (const [index, theirFrame] of theirs.entries()) {
    into.frames += 1;
    if (theirFrame.type === "signal") into.signalFrames += 1;
    const ourFrame = ours.frames[index];
    const isEqual = ourFrame?.pc === number64(theirFrame.pc) && ourFrame.registers[sp] === number64(theirFrame.sp);
    if (isEqual) into.equalFrames += 1;
    else note(into, sample, index, ours, codeMap);
    for (const register of calleeSaved) {
      const expected = theirFrame.saved[names[register]!];
      const found = ourFrame?.registers[register] ?? null;
      if (expected === undefined || found === null) continue;
      into.registers += 1;
      if (found === number64(expected)) into.equalRegisters += 1;
      else if (isEqual) note(into, sample, index, ours, codeMap, names[register]);
    }
  }
  if (ours.frames.length > theirs.length) note(into, sample, theirs.length, ours, codeMap);
}

/** Counts a sample that was taken inside a system call, unwound as a blocked thread is. */
export function compareBlocked(sample: Sample, { codeMap, constant }: Sampled, into: BlockedComparison): void {
  const { pc, sp } = callingConvention[codeMap.architecture];
  const at = address(number64(sample.registers[pc]!));
  const place = codeMap.find(at);
  const before = place === null ? "" : toHex(place.image.codeAt(place.offset - 4, 4));
  if (codeMap.architecture === "x86_64" ? !before.endsWith("0f05") : before !== "010000d4") return;
  const stackPointer = address(number64(sample.registers[sp]!));
  const ours = unwindBlocked(at, stackPointer, stackReader(sample, constant), codeMap, frameLimit);
  into.stacks += 1;
  for (const [index, theirs] of sample.frames.entries()) {
    const found = ours.frames[index];
    const isEqual = found?.pc === number64(theirs.pc) && found.registers[sp] === number64(theirs.sp);
    into.frames += 1;
    if (isEqual) into.equalFrames += 1;
    if (found?.isCertain !== true) continue;
    into.certainFrames += 1;
    if (!isEqual) into.wrongCertainFrames += 1;
  }
}

function note(into: Comparison, sample: Sample, index: number, ours: Unwinding, codeMap: CodeMap, register = ""): void {
  if (into.mismatches.length >= mismatchesMax) return;
  const our = ours.frames[index];
  const their = sample.frames[index];
  const place = our === undefined || our.module === null ? "" : codeMap.modules[our.module]!.path;
  const ourText = our === undefined ? `ended: ${ours.end}` : `${our.pc.toString(16)} (${our.foundBy} ${place})`;
  const theirText = their === undefined ? `ended: ${sample.reason}` : `${their.pc} sp ${their.sp} ${their.type}`;
  into.mismatches.push(`thread ${sample.thread} frame ${index} ${register} ours ${ourText}, gdb ${theirText}`);
}
