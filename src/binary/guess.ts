// SPDX-License-Identifier: Apache-2.0
/**
 * Finds a caller where call-frame information does not: by the link register, the frame pointer, or a return address.
 *
 * A word counts as a return address only where a call ends just before it. A direct call to the very function that is
 * left is proof; anything else is a guess and is marked so. Limit: bytes of stack that are searched.
 */

import { callingConvention } from "./callingConvention.ts";
import type { CallPattern } from "./callPattern.ts";
import type { Row } from "./cfi.ts";
import type { ElfImage } from "./elf.ts";
import { instructionBytesMax } from "./instructionSet.ts";
import { pushedByStub, stubSlot } from "./plt.ts";
import { stripped } from "./restore.ts";
import { isTrampoline } from "./signalFrame.ts";
import type { Caller, OpenFrame, UnwindEnd, UnwindMemory } from "./unwindTypes.ts";
import { type FrameByCode, frameFromStart, frameToReturn } from "./x86_64Frame.ts";

/** Servers keep buffers of 16 KiB on the stack; four times that is searched, 8,192 words. */
const searchBytesMax = 65_536;
/** A frame record lies at most this far below the next one; beyond that it is taken for a stray number. */
const recordDistanceMax = 16 * 1024 * 1024;
/** The part of a function in which `sub $N, %rsp` is looked for. */
const prologueBytesMax = 96;
/** A direct call to code at most this far before pc is taken for a call of the function around pc. */
const functionBytesMax = 16_384;
/** Callees in the stack that are followed from their start, for one frame. */
const calleesTriedMax = 16;
const returnSlotBytes = 8n;
/** How an AArch64 frame record and an x86-64 frame lay out: saved frame pointer, then return address. */
const returnInRecord = 8;

/** The caller of a frame that no row covers, or whose row needs what is not known. */
export function guessCaller(frame: OpenFrame, memory: UnwindMemory): Caller | UnwindEnd {
  const direct = frame.interrupted ? callerOfEntry(frame, memory) : null;
  return (
    direct ??
    callerByCode(frame, memory) ??
    callerByTarget(frame, memory) ??
    callerByFramePointer(frame, memory) ??
    callerBySearch(frame, memory) ??
    "lost"
  );
}

/**
 * The CFA of a frame whose row is known but needs a register that is not. Certain where the size of the frame, read from its
 * prologue, leads to the return address of a call of this function; else the nearest such return address is a guess.
 */
export function guessFrameAddress(
  row: Row,
  frame: OpenFrame,
  memory: UnwindMemory,
): { cfa: bigint; isCertain: boolean } | null {
  const rule = row.rules.find((candidate) => candidate.register === row.fde.cie.returnColumn);
  const stack = stackOf(frame, memory);
  if (row.cfaRegister < 0 || rule?.kind !== "offset" || frame.place === null || stack === 0) return null;
  const callee = row.fde.start + Number(memory.codeMap.modules[frame.place.module]!.bias);
  const isOwn = (target: number): boolean => reaches(target, callee, memory);
  const sized = stack + frameBytes(row, frame.place.image);
  const call = returnAt(sized + rule.operand, memory);
  if (call !== null && (call.target === null || isOwn(call.target))) return { cfa: BigInt(sized), isCertain: true };
  const { at, isCertain } = searchReturn(stack, stack + searchBytesMax, memory, isOwn);
  if (at === null) return null;
  const { link } = callingConvention[memory.codeMap.architecture];
  return { cfa: BigInt(at - rule.operand), isCertain: isCertain && link !== null };
}

/** Bytes from the stack pointer to the CFA while an x86-64 function calls another: what it pushed, and `sub $N, %rsp`. */
function frameBytes(row: Row, image: ElfImage): number {
  const pushed = row.rules.reduce((most, rule) => (rule.kind === "offset" ? Math.max(most, -rule.operand) : most), 0);
  const code = image.codeAt(row.fde.start, Math.min(prologueBytesMax, row.fde.end - row.fde.start));
  const view = new DataView(code.buffer, code.byteOffset, code.length);
  for (let at = 0; at + 7 <= code.length; at += 1) {
    if (code[at] !== 0x48 || code[at + 2] !== 0xec) continue;
    if (code[at + 1] === 0x83) return pushed + view.getInt8(at + 3);
    if (code[at + 1] === 0x81) return pushed + view.getInt32(at + 3, true);
  }
  return pushed;
}

/**
 * By what the code does with the stack: from the start of the function, which a symbol or a call of it in the stack tells, or
 * else onwards to its return. Exact: the return address must be where the code says it is, and follow a call.
 */
function callerByCode(frame: OpenFrame, memory: UnwindMemory): Caller | null {
  const { place } = frame;
  if (place === null || memory.codeMap.architecture !== "x86_64") return null;
  const { bias, image } = memory.codeMap.modules[place.module]!;
  const code = (at: bigint): Uint8Array => image.codeAt(Number(at - bias), instructionBytesMax);
  const word = (at: bigint): bigint | null => memory.window.word(Number(at));
  const fromStart = (start: bigint): FrameByCode | null => frameFromStart(start, frame.pc, frame.registers, code, word);
  const symbol = image.symbolAt(place.offset);
  const named = symbol === null ? null : fromStart(bias + BigInt(symbol.start));
  return (
    leftBy(named, frame, memory) ??
    leftBy(frameOfCall(frame, fromStart, memory), frame, memory) ??
    leftBy(frameToReturn(frame.pc, frame.registers, code, word), frame, memory)
  );
}

/** A direct call in the stack whose callee, followed from its start to pc, has its return address just there. */
function frameOfCall(
  frame: OpenFrame,
  fromStart: (start: bigint) => FrameByCode | null,
  memory: UnwindMemory,
): FrameByCode | null {
  const stack = stackOf(frame, memory);
  const pc = Number(frame.pc);
  const tried = new Map<number, FrameByCode | null>();
  for (let at = stack + ((8 - (stack % 8)) % 8); at < stack + searchBytesMax; at += 8) {
    if (Number.isNaN(memory.window.wordAsNumber(at)) || tried.size >= calleesTriedMax) return null;
    const target = returnAt(at, memory)?.target ?? null;
    if (target === null || target > pc || pc - target >= functionBytesMax) continue;
    const found = tried.get(target) ?? fromStart(BigInt(target));
    tried.set(target, found);
    if (found !== null && Number(found.returnSlot) === at) return found;
  }
  return null;
}

function leftBy(found: FrameByCode | null, frame: OpenFrame, memory: UnwindMemory): Caller | null {
  if (found === null) return null;
  const convention = callingConvention[memory.codeMap.architecture];
  const returnAddress = memory.window.word(Number(found.returnSlot));
  if (returnAddress === null || !isReturnAddress(Number(returnAddress), memory)) return null;
  const next: (bigint | null)[] = new Array(convention.names.length).fill(null);
  for (const [register, value] of found.restored) next[register] = value;
  frame.cfa = found.returnSlot + returnSlotBytes;
  next[convention.sp] = frame.cfa;
  next[convention.pc] = returnAddress;
  return { registers: next, foundBy: "returnAddress", interrupted: false, isCertain: true };
}

/** Just entered: by a call through a bad pointer, in a linkage stub, or (link register) in a leaf without information. */
function callerOfEntry(frame: OpenFrame, memory: UnwindMemory): Caller | null {
  const { codeMap, mask, window } = memory;
  const { link, pc, sp } = callingConvention[codeMap.architecture];
  const { place, registers } = frame;
  const isOutsideCode = place === null && !codeMap.isExecutable(Number(frame.pc));
  const pushedBytes = place === null ? null : pushedByStub(place.image, place.offset);
  const isInStub = pushedBytes !== null;
  const stack = registers[sp] ?? null;
  if (stack === null || (link === null && !isOutsideCode && !isInStub)) return null;
  const word = link === null ? window.word(Number(stack)) : (registers[link] ?? null);
  if (word === null) return null;
  const target = link === null ? word : stripped(word, mask);
  if (codeMap.callBefore(Number(target)) === null) return null;
  frame.cfa = stack + BigInt(pushedBytes ?? 0) + (link === null ? 8n : 0n);
  const next = registers.slice();
  next[pc] = target;
  next[sp] = frame.cfa;
  return { registers: next, foundBy: "returnAddress", interrupted: false, isCertain: isOutsideCode || isInStub };
}

function callerByFramePointer(frame: OpenFrame, memory: UnwindMemory): Caller | null {
  const { codeMap, mask, window } = memory;
  const convention = callingConvention[codeMap.architecture];
  const record = Number(frame.registers[convention.framePointer] ?? 0n);
  const stack = Number(frame.registers[convention.sp] ?? 0n);
  if (record === 0 || record < stack || record % 8 !== 0) return null;
  const word = window.word(record + returnInRecord);
  const outer = window.word(record);
  if (word === null || outer === null) return null;
  const target = stripped(word, mask);
  if (!isReturnAddress(Number(target), memory)) return null;
  if (convention.link !== null && outer !== 0n && Number(outer) <= record) return null;
  const next: (bigint | null)[] = new Array(convention.names.length).fill(null);
  next[convention.pc] = target;
  next[convention.framePointer] = outer;
  if (convention.link === null) {
    frame.cfa = BigInt(record + 16);
    next[convention.sp] = frame.cfa;
  }
  return { registers: next, foundBy: "framePointer", interrupted: false, isCertain: false };
}

/** A direct call to code just before pc, below the frame pointer's record: the function has not made its own yet. */
function callerByTarget(frame: OpenFrame, memory: UnwindMemory): Caller | null {
  const { codeMap, window } = memory;
  const { framePointer } = callingConvention[codeMap.architecture];
  const { place } = frame;
  const record = Number(frame.registers[framePointer] ?? 0n);
  const stack = stackOf(frame, memory);
  if (place === null || stack === 0) return null;
  const pc = Number(frame.pc);
  const isOwn = (target: number): boolean =>
    target <= pc && pc - target < functionBytesMax && place.image.fdeAt(place.offset - (pc - target)) === null;
  const end = record >= stack ? Math.min(record + 16, stack + searchBytesMax) : stack + searchBytesMax;
  const found = searchReturn(stack, end, memory, isOwn);
  if (!found.isCertain) return null;
  const isRecord = found.at === record + returnInRecord;
  const outer = isRecord ? window.word(record) : (frame.registers[framePointer] ?? null);
  return callerAt(found.at, outer, frame, memory);
}

function callerBySearch(frame: OpenFrame, memory: UnwindMemory): Caller | null {
  const stack = stackOf(frame, memory);
  if (stack === 0) return null;
  const { at } = searchReturn(stack, stack + searchBytesMax, memory, null);
  if (at === null) return null;
  const { link } = callingConvention[memory.codeMap.architecture];
  return callerAt(at, link === null ? null : memory.window.word(at - returnInRecord), frame, memory);
}

/** The caller that the return address in the slot at `at` belongs to. */
function callerAt(at: number, outer: bigint | null, frame: OpenFrame, memory: UnwindMemory): Caller {
  const convention = callingConvention[memory.codeMap.architecture];
  const next: (bigint | null)[] = new Array(convention.names.length).fill(null);
  next[convention.pc] = stripped(memory.window.word(at) ?? 0n, memory.mask);
  next[convention.framePointer] = outer;
  if (convention.link === null) {
    frame.cfa = BigInt(at + 8);
    next[convention.sp] = frame.cfa;
  }
  return { registers: next, foundBy: "returnAddress", interrupted: false, isCertain: false };
}

type FoundReturn =
  | { readonly at: number; readonly isCertain: true }
  | { readonly at: number | null; readonly isCertain: false };

/**
 * The nearest slot upwards that returns from a direct call whose target `isOwn`; else, not certain, the nearest that
 * returns from a call through a pointer; else from any call. Without `isOwn` the nearest of any kind.
 */
function searchReturn(
  from: number,
  end: number,
  memory: UnwindMemory,
  isOwn: ((target: number) => boolean) | null,
): FoundReturn {
  let through: number | null = null;
  let any: number | null = null;
  for (let at = from + ((8 - (from % 8)) % 8); at < end; at += 8) {
    if (Number.isNaN(memory.window.wordAsNumber(at))) break;
    const call = returnAt(at, memory);
    if (call === null) continue;
    if (isOwn === null) return { at, isCertain: false };
    if (call.target !== null && isOwn(call.target)) return { at, isCertain: true };
    if (call.target === null) through ??= at;
    any ??= at;
  }
  return { at: through ?? any, isCertain: false };
}

/** The call that the slot at `at` returns from; null where it holds no return address. */
function returnAt(at: number, memory: UnwindMemory): CallPattern | null {
  const { codeMap, mask, window } = memory;
  const { link } = callingConvention[codeMap.architecture];
  const word = window.wordAsNumber(at);
  if (!(word > 0) || (link === null && !codeMap.isExecutable(word))) return null;
  if (link === null) return callReturningTo(word, memory);
  const call = callReturningTo(Number(stripped(window.word(at) ?? 0n, mask)), memory);
  return call !== null && isFrameRecord(at - returnInRecord, memory) ? call : null;
}

const stackOf = (frame: OpenFrame, memory: UnwindMemory): number =>
  Number(frame.registers[callingConvention[memory.codeMap.architecture].sp] ?? 0n);

/** True where a direct call to `target` arrives at `callee`: it is the function, or a stub whose slot holds it. */
function reaches(target: number, callee: number, memory: UnwindMemory): boolean {
  if (target === callee) return true;
  const place = memory.codeMap.locate(target);
  if (place === null) return false;
  const slot = stubSlot(place.image, place.offset);
  if (slot === null) return false;
  return memory.window.wordAsNumber(slot + Number(memory.codeMap.modules[place.module]!.bias)) === callee;
}

function isReturnAddress(pc: number, memory: UnwindMemory): boolean {
  const { codeMap } = memory;
  if (codeMap.locate(pc - 1) !== null) return callReturningTo(pc, memory) !== null;
  return codeMap.isExecutable(pc - 1);
}

/** The call before `pc`. The kernel's call of a signal handler has none: its return address is the trampoline. */
function callReturningTo(pc: number, memory: UnwindMemory): CallPattern | null {
  const call = memory.codeMap.callBefore(pc);
  if (call !== null) return call;
  const place = memory.codeMap.locate(pc);
  return place !== null && isTrampoline(place.image, place.offset) ? { target: null } : null;
}

function isFrameRecord(at: number, memory: UnwindMemory): boolean {
  const outer = memory.window.wordAsNumber(at);
  return outer === 0 || (outer > at && outer - at < recordDistanceMax && outer % 8 === 0);
}
