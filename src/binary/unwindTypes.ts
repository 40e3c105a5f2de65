// SPDX-License-Identifier: Apache-2.0
/**
 * What the unwinder gives (frames, and why it ended) and what its parts pass to each other. Types only.
 */
import type { Frame, SavedVector, VirtualAddress } from "#fault.ts";
import type { CodeMap, CodePlace } from "./codeMap.ts";
import type { StackWindow } from "./stackWindow.ts";

export type UnwoundFrame = Pick<Frame, "pc" | "cfa" | "registers" | "vectors" | "foundBy" | "module"> & {
  /** pc minus the module's bias; 0 where module is null. */
  readonly offset: number;
  /** Address to look the frame's function up by: pc, or pc - 1 where pc is a return address. */
  readonly lookup: VirtualAddress;
  /** True for the trampoline that a signal handler returns to. */
  readonly isSignal: boolean;
  /** False where this frame, its CFA, or a frame inside it was found by a guess. */
  readonly isCertain: boolean;
};

/**
 * Why the walk ended. `outermost`: the code says that there is no caller. `limit`: depth. `lost`: no caller was found.
 * `unreadable`: the stack is not mapped there. `noProgress`: the stack pointer does not move outwards.
 */
export type UnwindEnd = "outermost" | "limit" | "lost" | "unreadable" | "noProgress";

/** `dropped`: frames in the middle that were walked and not kept; the frame before the gap has no CFA. */
export type Unwinding = { readonly frames: readonly UnwoundFrame[]; readonly end: UnwindEnd; readonly dropped: number };

export type UnwindOptions = {
  /** Address bits of a return address on AArch64; the rest can be an authentication code. Default: 48 bits. */
  readonly addressMask?: bigint;
  /** True where the pc to begin with is a return address, not where a thread stopped. */
  readonly isReturnAddress?: boolean;
  /** Frames that are kept at each end of a deep stack. Default: all. */
  readonly keptAtEachEnd?: number;
};

/** Everything a step needs to know of the frame it leaves. */
export type OpenFrame = {
  pc: bigint;
  registers: (bigint | null)[];
  vectors: readonly SavedVector[];
  foundBy: Frame["foundBy"];
  /** Stopped or interrupted at pc; false where pc is a return address. */
  interrupted: boolean;
  place: CodePlace | null;
  cfa: bigint | null;
  isSignal: boolean;
  isCertain: boolean;
};

/** Without `vectors`: those of the frame it called. */
export type Caller = Pick<OpenFrame, "registers" | "foundBy" | "interrupted"> & {
  readonly vectors?: readonly SavedVector[];
  readonly isCertain: boolean;
};

/** What the parts of one walk share. `mask`: address bits of a return address. */
export type UnwindMemory = { readonly window: StackWindow; readonly codeMap: CodeMap; readonly mask: bigint };
