// SPDX-License-Identifier: Apache-2.0
/**
 * Makes a FaultReport of a stopped thread. Gets its registers and cause, and what is known of its program; gives plain
 * data that holds all a decision may look at.
 *
 * Runs while the thread is stopped: no packet, no disk, a few reads of the program's memory. Limits: 256 frames kept of
 * a deep stack at each end, 2 KiB of raw stack, 16 bytes of code.
 */
import { isAllocatorEntry } from "#binary/allocatorEntries.ts";
import { callingConvention } from "#binary/callingConvention.ts";
import type { CodeMap } from "#binary/codeMap.ts";
import type { ElfImage } from "#binary/elf.ts";
import type { InstructionSet } from "#binary/instructionSet.ts";
import { frameLimitMax, unwind } from "#binary/unwind.ts";
import type { UnwoundFrame } from "#binary/unwindTypes.ts";
import { toHex } from "#bytes.ts";
import { assert } from "#errors.ts";
import {
  address,
  type FaultId,
  type FaultReport,
  type FaultSignal,
  type Frame,
  type ModuleReference,
  type ProgramView,
  type Registers,
  type SessionEvidence,
  type SignalCause,
  type VirtualAddress,
} from "#fault.ts";
import { type CallSite, type CallSites, unknownCall } from "./callSites.ts";
import type { Connections } from "./connectionEvidence.ts";
import { threadPointerNumber } from "./gdb/registers.ts";
import type { RestartableSequences } from "./restartableSequences.ts";
import type { Sessions } from "./sessions.ts";
import type { SpineFrame, Spines } from "./spines.ts";
import { pickUp } from "./tornStack.ts";

/** A stack overflow has a hundred thousand frames; both ends of it say all there is to say. */
const keptAtEachEnd = 256;
/** What a call on x86-64 pushes. */
const returnAddressBytes = 8;
const stackWindowBytes = 2048;
/** glibc in one or in two files, and musl, which is its own loader. */
export const cLibraryPattern = /\/(libc|libpthread|ld)[-.][^/]*$/;
const loopsMax = 3;
const codeBytes = 16;
const blocksKept = 4;
/** si_code of a signal that the kernel sends for a reason of its own (`asm-generic/siginfo.h`). */
const siKernel = 0x80;
/** A fault this near to the stack pointer, outside the stack, is an overflow: the guard and the largest usual frame. */
const overflowReachBytes = 65_536n;

/** What is known of the program at the moment of the stop. */
export type ProgramKnowledge = {
  readonly workload: string;
  readonly view: ProgramView;
  readonly map: CodeMap;
  readonly instructions: InstructionSet;
  readonly callSites: CallSites;
  readonly spines: Spines;
  readonly sessions: Pick<Sessions, "evidence">;
  readonly sequences: RestartableSequences;
};

/** What is known of this one stop. */
export type StopFacts = {
  readonly id: FaultId;
  readonly atMs: number;
  readonly tid: number;
  readonly threadName: string;
  readonly threads: number;
  readonly threadsLost?: number;
  readonly signal: FaultSignal;
  readonly registers: Registers;
  readonly cause: SignalCause | null;
  readonly caught: boolean;
  readonly deliveredBefore: string | null;
  readonly blockedSince: number | null;
  readonly connections: Connections;
  readonly leaveAt?: VirtualAddress | null;
  /** Where the thread was stopped because it goes round: the canonical address of the frame in which it does. */
  readonly loop: VirtualAddress | null;
};

/** A report without its site: that is `suppression`'s to say, and the appliance puts the two together. */
export type UnsitedReport = Omit<FaultReport, "site">;

export function decodeFault(facts: StopFacts, program: ProgramKnowledge): UnsitedReport {
  const { view, map } = program;
  const convention = callingConvention[view.architecture];
  const pc = facts.registers[convention.pc];
  const sp = facts.registers[convention.sp];
  assert(pc != null && sp != null, "a stopped thread without pc or sp", { tid: facts.tid });
  const read = readingOnce(view);
  const unwinding = unwind(facts.registers, read, map, frameLimitMax, { keptAtEachEnd });
  const framesOf = (some: readonly UnwoundFrame[]): SpineFrame[] => spineFrames(some, map);
  const kept = fromLoop(pickUp(unwinding, program.spines.spineOf(facts.tid), framesOf, map, read), facts.loop);
  const modules = modulesOf(kept, map);
  const calls = callsOf(kept, program);
  const described = kept.map((frame, index) => describeFrame(frame, calls[index]!, modules, program));
  const spine = program.spines.spineIn(facts.tid, framesOf(kept));
  const frames = withLoops(described, spine, program);
  const code = map.isMapped(Number(pc)) ? view.readMemory(address(pc), codeBytes) : new Uint8Array();
  const { connections, loop, ...known } = facts;
  return {
    ...known,
    workload: program.workload,
    pid: view.pid,
    architecture: view.architecture,
    modules: modules.map(({ path, buildId, bias, ownsSignals }) => ({ path, buildId, bias, ownsSignals })),
    frames,
    spine,
    sessions: sessionEvidence(connections, kept, frames, spine, program),
    damagedSequence: damagedSequence(facts, program),
    connectionsShared: connections.shared,
    multiplexers: connections.multiplexers,
    complete: unwinding.end === "outermost",
    instruction:
      code.length === 0 || loop !== null
        ? null
        : program.instructions.faulting(code, pc, {
            registers: facts.registers,
            faultAddress: facts.cause?.faultAddress ?? null,
          }),
    codeAt: codeAt(Number(pc), frames[0], map),
    serving: program.spines.threads > 0,
    inAllocator: isInAllocator(frames),
    stackExhausted: isStackExhausted(sp, facts.cause, map),
    stack: { from: address(sp), bytes: toHex(read(address(sp), stackWindowBytes)) },
  };
}

/** Blocks of the stack are asked for again: each read takes as long as the unwinding of two frames (measured: 35 µs). */
function readingOnce(view: ProgramView): (from: VirtualAddress, lengthBytes: number) => Uint8Array {
  const blocks: { readonly from: VirtualAddress; readonly bytes: Uint8Array }[] = [];
  return (from, lengthBytes) => {
    for (const block of blocks) {
      const skipped = Number(from - block.from);
      if (skipped >= 0 && skipped + lengthBytes <= block.bytes.length) {
        return block.bytes.subarray(skipped, skipped + lengthBytes);
      }
    }
    const bytes = view.readMemory(from, lengthBytes);
    if (blocks.length < blocksKept) blocks.push({ from, bytes });
    return bytes;
  };
}

/** What a loop calls comes and goes: the fault is in the frame that stays. */
function fromLoop(frames: readonly UnwoundFrame[], loop: VirtualAddress | null): readonly UnwoundFrame[] {
  return loop === null
    ? frames
    : frames.slice(
        Math.max(
          0,
          frames.findIndex(({ cfa }) => cfa === loop),
        ),
      );
}

/** Frames as the spine learner knows them. */
export function spineFrames(frames: readonly UnwoundFrame[], map: CodeMap): SpineFrame[] {
  return frames.map(({ cfa, pc, lookup }, index) => {
    const found = map.find(lookup);
    const bias = found === null ? undefined : map.modules[found.module]?.bias;
    if (found?.fde == null || bias === undefined) {
      return { cfa, pc, function: calledFrom(frames[index + 1], map), isPart: false };
    }
    const start = address(bias + BigInt(found.fde.start));
    return { cfa, pc, function: start, isPart: isPart(found.image, found.fde.start, map.symbolAt(start)) };
  });
}

/** Without call-frame information: what the caller has called, where that is told by its code. */
function calledFrom(caller: UnwoundFrame | undefined, map: CodeMap): VirtualAddress | null {
  const target = caller === undefined ? null : (map.callBefore(Number(caller.pc))?.target ?? null);
  return target === null ? null : address(BigInt(target));
}

/** Code that its function jumps to (`.cold`): its first row already knows of things pushed. Another name, the same frame. */
function isPart(image: ElfImage, start: number, symbol: string | null): boolean {
  if (symbol?.endsWith(".cold") === true) return true;
  const row = image.rowAt(start);
  const { sp, link } = callingConvention[image.architecture];
  const pushed = link === null ? returnAddressBytes : 0;
  return row !== null && (row.cfaRegister !== sp || row.cfaOffset !== pushed);
}

/** A signal handler works on nobody's request; the way from an error to abort is full of numbers that mean signals. */
function sessionEvidence(
  { sockets }: Connections,
  kept: readonly UnwoundFrame[],
  frames: readonly Frame[],
  spine: number | null,
  { sessions, map, view }: ProgramKnowledge,
): SessionEvidence[] {
  const limit = spine ?? kept.length;
  if (kept.slice(0, limit).some((frame) => frame.isSignal)) return [];
  const own = frames.slice(0, limit).findLastIndex(({ afterCall }) => afterCall === "never") + 1;
  const sp = kept[own]?.registers[callingConvention[view.architecture].sp];
  if (sp == null) return [];
  const work = { frames: kept.slice(own), spine: spine === null ? null : spine - own, sp: address(sp), map };
  return sessions.evidence(sockets, work);
}

/** How each frame was entered. A value that is passed on unchanged is tested or used further out. */
function callsOf(frames: readonly UnwoundFrame[], program: ProgramKnowledge): readonly CallSite[] {
  const calls = frames.map((frame, index) => howEntered(frame, frames[index + 1], program));
  for (let index = calls.length - 2; index >= 0; index -= 1) {
    const { afterCall, failureValue, failsPlainly } = calls[index + 1]!;
    if (calls[index]!.passedOn && afterCall !== "never")
      calls[index] = { ...calls[index]!, afterCall, failureValue, failsPlainly };
  }
  return calls;
}

function describeFrame(
  frame: UnwoundFrame,
  call: CallSite,
  modules: readonly ModuleReference[],
  program: ProgramKnowledge,
): Frame {
  return {
    pc: frame.pc,
    cfa: frame.cfa,
    registers: frame.registers,
    ...(frame.vectors === undefined ? {} : { vectors: frame.vectors }),
    module: frame.module === null ? null : modules.indexOf(program.map.modules[frame.module]!),
    offset: BigInt(frame.offset),
    functionStart: functionStartOf(frame.lookup, program.map),
    symbol: program.map.symbolAt(frame.lookup),
    enteredBy: call.enteredBy,
    afterCall: call.afterCall,
    failureValue: call.failureValue,
    ...(call.failsPlainly ? { failsPlainly: true } : {}),
    foundBy: frame.foundBy,
  };
}

/** Which of the innermost spine frames are called in a loop, and what keeps it going: what else could be given up of a fault in the spine? */
function withLoops(frames: readonly Frame[], spine: number | null, { callSites, map }: ProgramKnowledge): Frame[] {
  return frames.map((frame, index) => {
    const outer = frames[index + 1];
    if (spine === null || index < spine - 1 || index >= spine + loopsMax || outer === undefined) return frame;
    // What starts a program or a thread calls it once, whatever the code behind that call looks like.
    if (isCLibrary(frame, map) || isCLibrary(outer, map)) return frame;
    // Where one further out goes round again, it is no matter that this one ends. What calls main is the C library's.
    const further = frames.slice(index + 2, index + 2 + loopsMax).filter(({ module }) => module === outer.module);
    const outermost = !further.some(({ pc }) => callSites.isInLoop(pc, map));
    const loopValue = frame.afterCall === "tested" && outermost ? callSites.valueInLoop(outer.pc, map) : null;
    return index < spine ? { ...frame, loopValue } : { ...frame, loopValue, inLoop: callSites.isInLoop(outer.pc, map) };
  });
}

const isCLibrary = ({ pc }: Frame, map: CodeMap): boolean => {
  const place = map.locate(Number(pc) - 1);
  return place !== null && cLibraryPattern.test(map.modules[place.module]!.path);
};

/** The kernel enters a handler, whose return leads to the trampoline; that one was not entered at all. */
function howEntered(frame: UnwoundFrame, outer: UnwoundFrame | undefined, program: ProgramKnowledge): CallSite {
  if (outer === undefined || frame.isSignal) return unknownCall;
  if (outer.isSignal) return { ...unknownCall, enteredBy: "signal", afterCall: "ignored" };
  return program.callSites.at(outer.pc, program.map);
}

function functionStartOf(lookup: VirtualAddress, map: CodeMap): bigint | null {
  const start = map.find(lookup)?.fde?.start;
  return start === undefined ? null : BigInt(start);
}

/** The modules on this stack, in order of appearance. */
function modulesOf(frames: readonly UnwoundFrame[], map: CodeMap): ModuleReference[] {
  const seen = new Set<number>();
  for (const frame of frames) if (frame.module !== null) seen.add(frame.module);
  return [...seen].map((index) => map.modules[index]!);
}

function codeAt(pc: number, innermost: Frame | undefined, map: CodeMap): FaultReport["codeAt"] {
  if (innermost !== undefined && innermost.module !== null) return "file";
  if (map.isExecutable(pc)) return "anonymous";
  return map.isMapped(pc) ? "data" : "unmapped";
}

/** The kernel names no address where the thread's restartable sequence is what it could not read. */
function damagedSequence(
  { signal, cause, registers }: StopFacts,
  { view, map, sequences }: ProgramKnowledge,
): VirtualAddress | null {
  if (signal !== "SIGSEGV" || cause?.code !== siKernel) return null;
  return sequences.damage(registers[threadPointerNumber[view.architecture]] ?? null, map);
}

/** True where the outermost frame of the library that faulted, or one inside it, is an entry of the allocator. */
function isInAllocator(frames: readonly Frame[]): boolean {
  const innermost = frames[0]?.module;
  for (const frame of frames) {
    if (isAllocatorEntry(frame.symbol)) return true;
    if (frame.module !== innermost) return false;
  }
  return false;
}

function isStackExhausted(sp: bigint, cause: SignalCause | null, map: CodeMap): boolean {
  const at = cause?.faultAddress;
  if (at == null || (cause!.number !== 11 && cause!.number !== 7)) return false;
  const distance = at > sp ? at - sp : sp - at;
  return distance < overflowReachBytes && !map.isWritable(Number(at));
}
