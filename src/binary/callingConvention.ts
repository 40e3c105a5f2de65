// SPDX-License-Identifier: Apache-2.0
/**
 * Which register plays which part, by DWARF number, on both architectures.
 *
 * Source: System V ABI AMD64 supplement 1.0, figures 3.4 and 3.36; AAPCS64 2023Q3, section 6.1, and AADWARF64 2023Q3, 4.1.
 */
import type { Architecture } from "#fault.ts";

export type CallingConvention = {
  readonly pc: number;
  readonly sp: number;
  readonly framePointer: number;
  /** The register that holds the return address on entry; null where the call pushes it on the stack. */
  readonly link: number | null;
  /** Register that carries the first integer or pointer argument. */
  readonly firstArgument: number;
  /** Register that carries the first returned integer or pointer. */
  readonly returnValue: number;
  /** General registers that a function gives back as it found them; sp is restored by the frame itself. */
  readonly calleeSaved: readonly number[];
  /** Vector registers whose low halves a function gives back as it found them, by DWARF number. */
  readonly calleeSavedVectors: readonly number[];
  /** Names by DWARF number, for people. */
  readonly names: readonly string[];
};

const x86_64: CallingConvention = {
  pc: 16,
  sp: 7,
  framePointer: 6,
  link: null,
  firstArgument: 5,
  returnValue: 0,
  calleeSaved: [3, 6, 12, 13, 14, 15],
  calleeSavedVectors: [],
  names: "rax rdx rcx rbx rsi rdi rbp rsp r8 r9 r10 r11 r12 r13 r14 r15 rip".split(" "),
};

const aarch64: CallingConvention = {
  pc: 32,
  sp: 31,
  framePointer: 29,
  link: 30,
  firstArgument: 0,
  returnValue: 0,
  calleeSaved: [19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29],
  calleeSavedVectors: [72, 73, 74, 75, 76, 77, 78, 79],
  names: [...Array.from({ length: 31 }, (_, index) => `x${index}`), "sp", "pc"],
};

export const callingConvention: Readonly<Record<Architecture, CallingConvention>> = { x86_64, aarch64 };
