// SPDX-License-Identifier: Apache-2.0
/**
 * What the rest of Holdfast may ask of machine code, the same for both architectures. Types and two pure readings of them.
 *
 * `code` always begins at the address `at`, unless `from` names the address of its first byte. Register numbers are
 * DWARF's (fault.ts). No function here throws, whatever the bytes.
 */
import type { AfterCall, Architecture, FaultingInstruction, InstructionSkip, Registers } from "#fault.ts";

/** Instructions looked at after a call, on one path. */
export const valueUseInstructionsMax = 24;
/** Paths followed after a call: one more for each conditional branch that has nothing to do with the value. */
export const valueUsePathsMax = 4;
/** Longest instruction of either architecture, bytes. */
export const instructionBytesMax = 15;
/** Bytes before a return address that `callBefore` looks at. */
export const callBytesMax = 9;
/** Bytes before a return address that are swept forward to confirm a call. */
export const sweepBytesMax = 4_096;

/** A memory operand: base + index × scale + displacement. Registers are null where there is none. */
export type MemoryReference = {
  readonly base: number | null;
  readonly index: number | null;
  /** Factor of the index; on AArch64 also the shift of a register offset. */
  readonly scale: number;
  /** How the index register is read before it is scaled. */
  readonly extend: "none" | "signed32" | "unsigned32";
  /** Added, signed; the absolute address where base and index are null (PC-relative forms are resolved). */
  readonly displacement: bigint;
  readonly segment: "fs" | "gs" | null;
};

export type MemoryOperand = MemoryReference & {
  /** Width of one access, bytes; 0 where it depends on more than the instruction. */
  readonly bytes: number;
  readonly access: "read" | "write" | "readWrite";
};

/** The call instruction that ends at a return address. */
export type CallSite =
  | { readonly kind: "direct"; readonly target: bigint; readonly lengthBytes: number }
  /** Through a register (`memory` null) or a computed memory address. */
  | {
      readonly kind: "pointer";
      readonly register: number | null;
      readonly memory: MemoryReference | null;
      readonly lengthBytes: number;
    }
  /** Through a pointer at a fixed address: a pointer or a library call, which the caller knows by the slot's mapping. */
  | { readonly kind: "slot"; readonly slot: bigint; readonly lengthBytes: number }
  | { readonly kind: "none" };

/** How two numbers compare. `negative` looks at the top bit of the left one; `other` is parity, overflow or unknown. */
export type Condition =
  | "equal"
  | "notEqual"
  | "less"
  | "lessEqual"
  | "greater"
  | "greaterEqual"
  | "below"
  | "belowEqual"
  | "above"
  | "aboveEqual"
  | "negative"
  | "notNegative"
  | "other";

/** A test of a returned value: the branch is taken where `((value + offset) & mask) condition against`, in `bits` bits. */
export type ValueTest = {
  readonly bits: 8 | 16 | 32 | 64;
  readonly offset: bigint;
  /** null: all bits. */
  readonly mask: bigint | null;
  readonly against: bigint;
  readonly condition: Condition;
};

/**
 * What the code after a call does with the value. `tested`: compared before any use but copying and storing; `test` is
 * null where the constant is not known. `returned`: passed on unchanged as the value of the calling function.
 */
export type ValueUse =
  | {
      readonly kind: "tested";
      readonly test: ValueTest | null;
      /** The value is compared with another constant after that, before any use: it is one of several codes. */
      readonly isCode?: boolean;
    }
  | { readonly kind: "used" | "ignored" | "returned" | "unknown" };

/** What is known of the stopped thread. `registers` may hold the x86-64 flags under DWARF number 49. */
export type StoppedState = { readonly registers: Registers; readonly faultAddress: bigint | null };

/** `trap`: an instruction that ends the program. `fill`: no-operations up to an aligned address. */
export type Padding = "trap" | "fill" | null;

export interface InstructionSet {
  readonly architecture: Architecture;
  /**
   * The call that ends at `returnAddress`, the end of `before`. Backward decoding of x86-64 is a guess; it is certain
   * with `functionBytes`: the bytes from the start of the function up to `returnAddress`.
   */
  callBefore(before: Uint8Array, returnAddress: bigint, functionBytes?: Uint8Array): CallSite;
  valueUse(code: Uint8Array, at: bigint, from?: bigint): ValueUse;
  /** `valueUse` in the words of a frame. `returned` is "unknown": the frame outside decides. Never "never". */
  afterCall(code: Uint8Array, at: bigint, from?: bigint): AfterCall;
  /**
   * Whether the call that ends at `at` is made again in a loop, or is where it has returned `value`; null where that is not
   * known. `code` begins at `from`.
   */
  comesBack(code: Uint8Array, at: bigint, from: bigint, value?: bigint): boolean | null;
  testOf(code: Uint8Array, at: bigint, from?: bigint): ValueTest | null;
  /** Without `state`, instructions whose effect depends on registers have no skip. */
  faulting(code: Uint8Array, at: bigint, state?: StoppedState): FaultingInstruction;
  /** The explicit memory operand, or that of a string instruction; null where there is none. */
  memoryOperand(code: Uint8Array, at: bigint): MemoryOperand | null;
  padding(code: Uint8Array, at: bigint): Padding;
  isPadding(code: Uint8Array, at: bigint): boolean;
  /** null where no valid instruction is. */
  length(code: Uint8Array, at: bigint): number | null;
  /** One line for people. */
  format(code: Uint8Array, at: bigint): string;
}

const all64 = 0xffff_ffff_ffff_ffffn;

/** The address a memory operand means, or null where a register of it (or its segment) is not known. */
export function effectiveAddress(memory: MemoryReference, registers: Registers): bigint | null {
  if (memory.segment !== null) return null;
  const base = memory.base === null ? 0n : registers[memory.base];
  const index = memory.index === null ? 0n : registers[memory.index];
  if (base === null || base === undefined || index === null || index === undefined) return null;
  return (base + extended(index, memory.extend) * BigInt(memory.scale) + memory.displacement) & all64;
}

function extended(value: bigint, extend: MemoryReference["extend"]): bigint {
  if (extend === "none") return value;
  return extend === "signed32" ? BigInt.asIntN(32, value) : BigInt.asUintN(32, value);
}

/** Registers to write for a skip; the program counter moves past the instruction besides. */
export function skipWrites(skip: InstructionSkip): ReadonlyMap<number, bigint> {
  if (skip.kind === "drop") return new Map();
  if (skip.kind === "zero") return new Map(skip.registers.map((register) => [register, 0n]));
  return new Map(skip.writes);
}

/** Whether a returned value takes the branch of the test; null for a condition that is not a comparison. */
export function branchTaken(test: ValueTest, value: bigint): boolean | null {
  const cut = (number: bigint): bigint => BigInt.asUintN(test.bits, number);
  const left = cut(value + test.offset) & (test.mask === null ? all64 : cut(test.mask));
  const right = cut(test.against);
  const signedLeft = BigInt.asIntN(test.bits, left);
  const signedRight = BigInt.asIntN(test.bits, right);
  const answers: Record<Condition, boolean | null> = {
    equal: left === right,
    notEqual: left !== right,
    less: signedLeft < signedRight,
    lessEqual: signedLeft <= signedRight,
    greater: signedLeft > signedRight,
    greaterEqual: signedLeft >= signedRight,
    below: left < right,
    belowEqual: left <= right,
    above: left > right,
    aboveEqual: left >= right,
    negative: BigInt.asIntN(test.bits, left - right) < 0n,
    notNegative: BigInt.asIntN(test.bits, left - right) >= 0n,
    other: null,
  };
  return answers[test.condition];
}
