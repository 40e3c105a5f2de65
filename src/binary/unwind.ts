// SPDX-License-Identifier: Apache-2.0
/**
 * Walks a stopped thread's stack outwards. Gets registers, a memory reader and the code map; gives frames, innermost first.
 *
 * By call-frame information; through signal frames; by frame pointer or return addresses where nothing else is known.
 * Reads the stack in blocks, allocates little, and takes time linear in the depth: it runs while the program is stopped.
 * Limits: frames (the caller's), and progress: an outer frame must lie higher on the stack, except across a signal.
 */
import { address, type Registers, type SavedVector, type VirtualAddress } from "#fault.ts";
import { callingConvention } from "./callingConvention.ts";
import type { CodeMap } from "./codeMap.ts";
import { DeepWalk } from "./deepWalk.ts";
import { guessCaller, guessFrameAddress } from "./guess.ts";
import { applyRow, frameAddress } from "./restore.ts";
import { interruptedRegisters, isTrampoline, isTrampolineCode, trampolineBytesMax } from "./signalFrame.ts";
import { type ReadMemory, StackWindow } from "./stackWindow.ts";
import type {
  Caller,
  OpenFrame,
  UnwindEnd,
  Unwinding,
  UnwindMemory,
  UnwindOptions,
  UnwoundFrame,
} from "./unwindTypes.ts";

/** Depth that still shows the whole of a stack overflow of 8 MiB with frames of 16 bytes, the smallest there are. */
export const frameLimitMax = 600_000;
/** Signal handlers that were themselves interrupted; each may switch to another stack. */
const signalFramesMax = 64;
const defaultAddressMask = (1n << 48n) - 1n;

export function unwind(
  registers: Registers,
  read: ReadMemory,
  codeMap: CodeMap,
  limit: number,
  options: UnwindOptions = {},
): Unwinding {
  return new Unwinder(read, codeMap, options).run(registers, Math.min(limit, frameLimitMax));
}

/**
 * Walks the stack of a thread that waits in a system call, from its pc and stack pointer alone, without a stop.
 *
 * Most frames restore what outer ones need; where one does not, its return address is searched for, and a frame that rests
 * on a guess has `isCertain` false, as have all outside it.
 */
export function unwindBlocked(
  pc: VirtualAddress,
  stackPointer: VirtualAddress,
  read: ReadMemory,
  codeMap: CodeMap,
  limit: number,
  options: UnwindOptions = {},
): Unwinding {
  const convention = callingConvention[codeMap.architecture];
  const registers: (bigint | null)[] = new Array(convention.names.length).fill(null);
  registers[convention.pc] = pc;
  registers[convention.sp] = stackPointer;
  return unwind(registers, read, codeMap, limit, options);
}

class Unwinder {
  readonly #window: StackWindow;
  readonly #memory: UnwindMemory;
  /** Few stacks are so deep. */
  #deep: DeepWalk | null = null;
  readonly #keptAtEachEnd: number;
  readonly #isReturnAddress: boolean;
  #signalFrames = 0;
  /** Lower bound of the next frame's CFA. */
  #floor = -1;

  constructor(
    read: ReadMemory,
    private readonly codeMap: CodeMap,
    options: UnwindOptions,
  ) {
    this.#window = new StackWindow(read);
    this.#memory = { window: this.#window, codeMap, mask: options.addressMask ?? defaultAddressMask };
    this.#isReturnAddress = options.isReturnAddress ?? false;
    this.#keptAtEachEnd = options.keptAtEachEnd ?? Number.POSITIVE_INFINITY;
  }

  run(registers: Registers, limit: number): Unwinding {
    const convention = callingConvention[this.codeMap.architecture];
    const kept = new BothEnds(this.#keptAtEachEnd);
    const pc = registers[convention.pc] ?? 0n;
    const known = registers.slice(0, convention.names.length);
    let frame = this.#isReturnAddress
      ? this.#open(pc, { registers: known, foundBy: "returnAddress", interrupted: false, isCertain: false }, [])
      : this.#open(pc, { registers: known, foundBy: "stop", interrupted: true, isCertain: true }, []);
    for (;;) {
      const next = this.#leave(frame);
      kept.push(closed(frame));
      if (typeof next === "string") return kept.unwinding(next);
      if (kept.pushed >= limit) return kept.unwinding("limit");
      frame = kept.isAtRound ? this.#leap(next, kept, limit) : next;
    }
  }

  /** A frame further out where the stack goes on deep, else the same. */
  #leap(frame: OpenFrame, kept: BothEnds, limit: number): OpenFrame {
    this.#deep ??= new DeepWalk(this.#memory);
    const leap = this.#deep.leap(frame, this.#floor, kept.atEachEnd, limit - kept.pushed);
    if (leap === null) return frame;
    kept.passOver(leap.walked);
    this.#floor = leap.floor;
    const { pc, registers } = leap;
    const { isCertain, vectors } = frame;
    return this.#open(pc, { registers, foundBy: "cfi", interrupted: false, isCertain }, vectors);
  }

  /** The frame that called `frame`, and sets the CFA of `frame`. */
  #leave(frame: OpenFrame): OpenFrame | UnwindEnd {
    const caller = this.#caller(frame);
    if (typeof caller === "string") return caller;
    const convention = callingConvention[this.codeMap.architecture];
    const isProgress = this.#moveFloor(frame);
    if (!isProgress) return "noProgress";
    const pc = caller.registers[convention.pc] ?? null;
    if (pc === null) return "lost";
    if (pc === 0n && !caller.interrupted) return "outermost";
    // A call can be the last instruction of a mapping, a signal trampoline the first.
    const isCode = this.codeMap.isExecutable(Number(pc)) || this.codeMap.isExecutable(Number(pc) - 1);
    if (!caller.interrupted && !isCode) return "lost";
    return this.#open(pc, { ...caller, isCertain: frame.isCertain && caller.isCertain }, frame.vectors);
  }

  #caller(frame: OpenFrame): Caller | UnwindEnd {
    const { place, registers } = frame;
    const memory = this.#memory;
    const row = place === null ? null : place.image.rowAt(place.offset);
    if ((row === null || row.fde.cie.signal) && this.#isTrampoline(frame)) return this.#interrupted(frame);
    if (row === null) return guessCaller(frame, memory);
    const cfa = frameAddress(row, frame, memory);
    if (row.isOutermost) {
      frame.cfa = cfa;
      return "outermost";
    }
    if (cfa === null) {
      const guess = guessFrameAddress(row, frame, memory);
      if (guess === null) return guessCaller(frame, memory);
      frame.cfa = guess.cfa;
      frame.isCertain &&= guess.isCertain;
      if (row.cfaRegister >= 0) registers[row.cfaRegister] = guess.cfa - BigInt(row.cfaOffset);
    } else frame.cfa = cfa;
    const caller = applyRow(row, frame, memory);
    return caller === "lost" ? guessCaller(frame, memory) : caller;
  }

  /** An emulator, and a kernel without vdso, keep the trampoline in a page that is no file. */
  #isTrampoline({ place, pc, interrupted }: OpenFrame): boolean {
    if (place !== null) return isTrampoline(place.image, interrupted ? place.offset : place.offset + 1);
    if (!this.codeMap.isExecutable(Number(pc))) return false;
    return isTrampolineCode(this.codeMap.architecture, this.#window.bytes(Number(pc), trampolineBytesMax));
  }

  #interrupted(frame: OpenFrame): Caller | UnwindEnd {
    const { architecture } = this.codeMap;
    const stackPointer = frame.registers[callingConvention[architecture].sp] ?? null;
    if (stackPointer === null) return "lost";
    const registers = interruptedRegisters(architecture, Number(stackPointer), this.#window);
    if (registers === null) return "unreadable";
    frame.isSignal = true;
    return { registers, foundBy: "signal", interrupted: true, isCertain: true };
  }

  /** False where the frame does not lie above the one it called. */
  #moveFloor(frame: OpenFrame): boolean {
    if (frame.isSignal) {
      this.#floor = -1;
      this.#signalFrames += 1;
      return this.#signalFrames <= signalFramesMax;
    }
    if (frame.cfa === null) return true;
    const cfa = Number(frame.cfa);
    // Only a leaf that keeps its return address in the link register can have a frame of no size.
    const isLeaf = frame.interrupted && callingConvention[this.codeMap.architecture].link !== null;
    const isHigher = cfa > this.#floor;
    this.#floor = isLeaf ? cfa - 1 : cfa;
    return isHigher;
  }

  #open(pc: bigint, found: Caller, vectors: readonly SavedVector[]): OpenFrame {
    const place = this.codeMap.locate(Number(pc) - (found.interrupted ? 0 : 1));
    return { pc, vectors, ...found, place, cfa: null, isSignal: false };
  }
}

/** The innermost and the outermost frames of a walk, as many as are kept; the frame before the gap has no CFA. */
class BothEnds {
  readonly #inner: UnwoundFrame[] = [];
  /** A ring: the oldest is overwritten. */
  readonly #outer: UnwoundFrame[] = [];
  pushed = 0;

  constructor(readonly atEachEnd: number) {}

  /** As many have been pushed as both ends hold, or twice as many, and so on: a deep stack may have begun. */
  get isAtRound(): boolean {
    return this.pushed >= 2 * this.atEachEnd && this.pushed % this.atEachEnd === 0;
  }

  /** `frames`, a multiple of what an end holds, are not kept; as many as it holds come after them. */
  passOver(frames: number): void {
    this.pushed += frames;
  }

  push(frame: UnwoundFrame): void {
    if (this.pushed < this.atEachEnd) this.#inner.push(frame);
    else this.#outer[(this.pushed - this.atEachEnd) % this.atEachEnd] = frame;
    this.pushed += 1;
  }

  unwinding(end: UnwindEnd): Unwinding {
    const dropped = this.pushed - this.#inner.length - this.#outer.length;
    if (dropped === 0) return { frames: [...this.#inner, ...this.#outer], end, dropped };
    const oldest = (this.pushed - this.atEachEnd) % this.atEachEnd;
    const outer = [...this.#outer.slice(oldest), ...this.#outer.slice(0, oldest)];
    const gap = this.#inner.length - 1;
    return { frames: [...this.#inner.with(gap, { ...this.#inner[gap]!, cfa: null }), ...outer], end, dropped };
  }
}

function closed(frame: OpenFrame): UnwoundFrame {
  const { place, interrupted, pc } = frame;
  const step = interrupted ? 0 : 1;
  return {
    pc: address(pc),
    cfa: frame.cfa === null ? null : address(frame.cfa),
    registers: frame.registers,
    ...(frame.vectors.length === 0 ? {} : { vectors: frame.vectors }),
    foundBy: frame.foundBy,
    module: place === null ? null : place.module,
    offset: place === null ? 0 : place.offset + step,
    lookup: address(interrupted ? pc : pc - 1n),
    isSignal: frame.isSignal,
    isCertain: frame.isCertain,
  };
}
