// SPDX-License-Identifier: Apache-2.0
/**
 * Where an AArch64 instruction word leads: branches, calls, returns, traps, hints; all else goes on.
 *
 * Source: Arm ARM DDI 0487 J.a, C4.1.93 "Branches, Exception Generating and System instructions".
 */

export type A64Flow =
  | { readonly kind: "next" }
  | { readonly kind: "nop" }
  | { readonly kind: "jump" | "call"; readonly target: bigint }
  | { readonly kind: "jumpPointer" | "callPointer" | "return"; readonly register: number }
  /** `bcond`: on the flags. */
  | { readonly kind: "branch"; readonly target: bigint; readonly by: A64BranchCondition }
  /** UDF, BRK, HLT: ends the program. */
  | { readonly kind: "trap"; readonly name: string }
  | { readonly kind: "systemCall" };

export type A64BranchCondition =
  | { readonly kind: "flags"; readonly condition: number }
  | { readonly kind: "zero" | "notZero"; readonly register: number; readonly bits: 32 | 64 }
  | { readonly kind: "bitClear" | "bitSet"; readonly register: number; readonly bit: number };

export const wordBytes = 4;

/** The word at `offset`, or null outside the bytes. */
export function wordAt(code: Uint8Array, offset: number): number | null {
  if (offset < 0 || offset + wordBytes > code.length) return null;
  const [first, second, third, fourth] = code.subarray(offset, offset + wordBytes);
  return ((first ?? 0) | ((second ?? 0) << 8) | ((third ?? 0) << 16) | ((fourth ?? 0) << 24)) >>> 0;
}

export const field = (word: number, low: number, width: number): number => (word >>> low) & ((1 << width) - 1);
export const signedField = (word: number, low: number, width: number): number =>
  (word << (32 - low - width)) >> (32 - width);
/** True where the bits of `word` under `mask` are `value`. */
export const matches = (word: number, mask: number, value: number): boolean => (word & mask) >>> 0 === value >>> 0;

export function decodeFlow(word: number, at: bigint): A64Flow {
  if (matches(word, 0xffff_0000, 0)) return { kind: "trap", name: "udf" };
  if (!matches(word, 0x1c00_0000, 0x1400_0000)) return { kind: "next" };
  const to = (low: number, width: number): bigint => BigInt.asUintN(64, at + BigInt(signedField(word, low, width) * 4));
  if (matches(word, 0x7c00_0000, 0x1400_0000)) {
    return { kind: field(word, 31, 1) === 1 ? "call" : "jump", target: to(0, 26) };
  }
  if (matches(word, 0xff00_0000, 0x5400_0000)) {
    return { kind: "branch", target: to(5, 19), by: { kind: "flags", condition: field(word, 0, 4) } };
  }
  const register = field(word, 0, 5);
  if (matches(word, 0x7e00_0000, 0x3400_0000)) {
    const kind = field(word, 24, 1) === 1 ? "notZero" : "zero";
    return { kind: "branch", target: to(5, 19), by: { kind, register, bits: field(word, 31, 1) === 1 ? 64 : 32 } };
  }
  if (matches(word, 0x7e00_0000, 0x3600_0000)) {
    const kind = field(word, 24, 1) === 1 ? "bitSet" : "bitClear";
    const bit = (field(word, 31, 1) << 5) | field(word, 19, 5);
    return { kind: "branch", target: to(5, 14), by: { kind, register, bit } };
  }
  return matches(word, 0xfe00_0000, 0xd600_0000) ? throughRegister(word) : exception(word);
}

/** BR, BLR, RET and their forms that check a signature first. */
function throughRegister(word: number): A64Flow {
  const register = field(word, 5, 5);
  const zeroModifier = matches(word, 0x1f, 0x1f);
  const plain = matches(word, 0x0000_fc1f, 0);
  const signed = matches(word, 0x0000_f800, 0x0000_0800);
  if (field(word, 16, 5) !== 31) return { kind: "next" };
  switch (field(word, 21, 4)) {
    case 0b0000:
      return plain || (signed && zeroModifier) ? { kind: "jumpPointer", register } : { kind: "next" };
    case 0b0001:
      return plain || (signed && zeroModifier) ? { kind: "callPointer", register } : { kind: "next" };
    case 0b0010:
      return plain || (signed && zeroModifier && register === 31) ? { kind: "return", register } : { kind: "next" };
    case 0b1000:
      return signed ? { kind: "jumpPointer", register } : { kind: "next" };
    case 0b1001:
      return signed ? { kind: "callPointer", register } : { kind: "next" };
    default:
      return { kind: "next" };
  }
}

function exception(word: number): A64Flow {
  if (matches(word, 0xffe0_001f, 0xd420_0000)) return { kind: "trap", name: "brk" };
  if (matches(word, 0xffe0_001f, 0xd440_0000)) return { kind: "trap", name: "hlt" };
  if (matches(word, 0xffe0_001f, 0xd400_0001)) return { kind: "systemCall" };
  if (matches(word, 0xffff_f01f, 0xd503_201f)) return hint(word);
  return { kind: "next" };
}

/** NOP alone is filling; PAC and BTI hints are code. */
const hint = (word: number): A64Flow => (field(word, 5, 7) === 0 ? { kind: "nop" } : { kind: "next" });
