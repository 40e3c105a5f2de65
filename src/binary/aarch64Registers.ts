// SPDX-License-Identifier: Apache-2.0
/**
 * Data processing of AArch64 as steps of a followed value: which general registers a word reads and writes, and what it
 * compares. null for words of groups that are not decoded (SVE, SME, unallocated).
 *
 * Source: Arm ARM DDI 0487 J.a, C4.1.92 (immediate), C4.1.95 (register), C4.1.96 (SIMD and floating point).
 */
import { field, matches, wordBytes } from "./aarch64Decode.ts";
import type { Condition } from "./instructionSet.ts";
import type { CopyStep, PlaceTest, ValueBits, ValueStep } from "./valueUse.ts";

const conditions: readonly Condition[] = [
  "equal",
  "notEqual",
  "aboveEqual",
  "below",
  "negative",
  "notNegative",
  "other",
  "other",
  "above",
  "belowEqual",
  "greaterEqual",
  "less",
  "greater",
  "lessEqual",
  "other",
  "other",
];

export const conditionNamed = (code: number): Condition => conditions[code] ?? "other";

export const quietStep: ValueStep = {
  lengthBytes: wordBytes,
  reads: [],
  writes: [],
  copies: [],
  tests: [],
  resultTest: null,
  setsFlags: false,
  consumes: null,
  flow: "next",
  target: null,
};

const zeroRegister = 31;
/** Registers without the zero register. */
const real = (...registers: number[]): number[] => registers.filter((register) => register !== zeroRegister);

export function dataProcessing(word: number): ValueStep | null {
  switch (field(word, 25, 4)) {
    case 0b1000:
    case 0b1001:
      return immediate(word);
    case 0b0101:
    case 0b1101:
      return register(word);
    case 0b0111:
    case 0b1111:
      return vector(word);
    default:
      return null;
  }
}

type Fields = { readonly to: number; readonly from: number; readonly other: number; readonly bits: ValueBits };
const fieldsOf = (word: number): Fields => ({
  to: field(word, 0, 5),
  from: field(word, 5, 5),
  other: field(word, 16, 5),
  bits: field(word, 31, 1) === 1 ? 64 : 32,
});

const copyStep = (copy: CopyStep): ValueStep => ({ ...quietStep, writes: [copy.to ?? zeroRegister], copies: [copy] });

function immediate(word: number): ValueStep | null {
  const { to, from } = fieldsOf(word);
  switch (field(word, 23, 3)) {
    case 0b000:
    case 0b001:
      return { ...quietStep, writes: real(to) };
    case 0b010:
      return addConstant(word);
    case 0b011:
      return { ...quietStep, reads: [from], writes: real(to) };
    case 0b100:
      return logicConstant(word);
    case 0b101:
      return { ...quietStep, reads: field(word, 29, 2) === 3 ? real(to) : [], writes: real(to) };
    case 0b110:
      return bitfield(word);
    default:
      return { ...quietStep, reads: real(from, field(word, 16, 5)), writes: real(to) };
  }
}

/** ADD, SUB, ADDS, SUBS, and so CMP, CMN and MOV from or to sp. */
function addConstant(word: number): ValueStep {
  const { to, from, bits } = fieldsOf(word);
  const size = BigInt(field(word, 10, 12)) << (field(word, 22, 1) === 1 ? 12n : 0n);
  const offset = field(word, 30, 1) === 1 ? -size : size;
  const compares = field(word, 29, 1) === 1;
  const test: PlaceTest = { place: from, bits, mask: null, against: -offset, condition: null };
  if (compares && to === zeroRegister) return { ...quietStep, setsFlags: true, tests: [test] };
  const step = copyStep({ from, to, bits, offset });
  return compares ? { ...step, setsFlags: true, resultTest: test } : step;
}

function logicConstant(word: number): ValueStep {
  const { to, from, bits } = fieldsOf(word);
  if (field(word, 29, 2) !== 3) {
    const move = from === zeroRegister;
    return { ...quietStep, reads: move ? [] : [from], writes: [to] };
  }
  const mask = logicMask(field(word, 22, 1), field(word, 10, 6), field(word, 16, 6));
  const test: PlaceTest = { place: from, bits, mask, against: mask === null ? null : 0n, condition: null };
  if (to === zeroRegister) return { ...quietStep, setsFlags: true, tests: real(from).map(() => test) };
  const resultTest = from === zeroRegister ? null : test;
  return { ...quietStep, reads: real(from), writes: [to], setsFlags: true, resultTest };
}

/** The bit pattern of a logical immediate (DecodeBitMasks of the manual), as 64 bits. */
export function logicMask(n: number, imms: number, immr: number): bigint | null {
  const length = 31 - Math.clz32((n << 6) | (~imms & 0x3f));
  if (length < 1) return null;
  const size = 1 << length;
  const ones = imms & (size - 1);
  const rotate = BigInt(immr & (size - 1));
  if (ones === size - 1) return null;
  const pattern = (1n << BigInt(ones + 1)) - 1n;
  const turned = BigInt.asUintN(size, (pattern >> rotate) | (pattern << (BigInt(size) - rotate)));
  let mask = 0n;
  for (let at = 0; at < 64; at += size) mask |= turned << BigInt(at);
  return mask;
}

/** SXTB, SXTH, SXTW, UXTB, UXTH copy; all other moves of bits use the value. */
function bitfield(word: number): ValueStep {
  const { to, from } = fieldsOf(word);
  const width = field(word, 10, 6) + 1;
  const extends_ =
    field(word, 29, 2) !== 1 && field(word, 16, 6) === 0 && (width === 8 || width === 16 || width === 32);
  if (extends_ && from !== zeroRegister) return copyStep({ from, to, bits: width, offset: 0n });
  const keeps = field(word, 29, 2) === 1;
  return { ...quietStep, reads: real(from, keeps ? to : zeroRegister), writes: real(to) };
}

function register(word: number): ValueStep | null {
  if (field(word, 28, 1) === 0) return field(word, 24, 1) === 0 ? logicRegister(word) : addRegister(word);
  const { to, from, other } = fieldsOf(word);
  const reads = real(from, other);
  switch (field(word, 21, 4)) {
    case 0b0000:
      // ADC and SBC take the carry; RMIF and SETF only write flags.
      if (field(word, 10, 6) !== 0) return { ...quietStep, reads: real(from), setsFlags: true };
      return { ...quietStep, reads, writes: real(to), setsFlags: field(word, 29, 1) === 1, consumes: "other" };
    case 0b0010:
      return conditionalCompare(word);
    case 0b0100:
      return { ...quietStep, reads, writes: real(to), consumes: conditionNamed(field(word, 12, 4)) };
    case 0b0110:
      return { ...quietStep, reads: field(word, 30, 1) === 1 ? real(from) : reads, writes: real(to) };
    default:
      if (field(word, 24, 1) === 0) return null;
      return { ...quietStep, reads: [...reads, ...real(field(word, 10, 5))], writes: real(to) };
  }
}

/** AND, ORR, EOR and kin; ORR with the zero register is MOV, ANDS to it is TST. */
function logicRegister(word: number): ValueStep {
  const { to, from, other, bits } = fieldsOf(word);
  const opcode = field(word, 29, 2);
  const plain = field(word, 10, 6) === 0 && field(word, 21, 1) === 0;
  if (opcode === 1 && from === zeroRegister && plain && other !== zeroRegister && to !== zeroRegister) {
    return copyStep({ from: other, to, bits, offset: 0n });
  }
  const step = { ...quietStep, reads: real(from, other), writes: real(to), setsFlags: opcode === 3 };
  if (opcode !== 3 || to !== zeroRegister) return step;
  const same = from === other && plain;
  const test = (place: number): PlaceTest => ({ place, bits, mask: null, against: same ? 0n : null, condition: null });
  return { ...step, reads: [], tests: real(from, other).map(test) };
}

/** ADD and SUB of registers, shifted or extended; SUBS to the zero register is CMP. */
function addRegister(word: number): ValueStep {
  const { to, from, other, bits } = fieldsOf(word);
  const setsFlags = field(word, 29, 1) === 1;
  const extended = field(word, 21, 1) === 1;
  const left = extended ? [from] : real(from);
  if (setsFlags && to === zeroRegister) {
    const against = other === zeroRegister ? 0n : null;
    const test = (place: number): PlaceTest => ({ place, bits, mask: null, against, condition: null });
    return { ...quietStep, setsFlags, tests: [...left, ...real(other)].map(test) };
  }
  const writes = extended && !setsFlags ? [to] : real(to);
  return { ...quietStep, reads: [...left, ...real(other)], writes, setsFlags };
}

/** CCMP and CCMN: the comparison counts only where the condition holds, so its constant says nothing certain. */
function conditionalCompare(word: number): ValueStep {
  const { from, other, bits } = fieldsOf(word);
  const places = field(word, 11, 1) === 1 ? real(from) : real(from, other);
  const test = (place: number): PlaceTest => ({ place, bits, mask: null, against: null, condition: null });
  const consumes = conditionNamed(field(word, 12, 4));
  return { ...quietStep, setsFlags: true, consumes, tests: places.map(test) };
}

/** SIMD and floating point: only moves and conversions touch general registers. */
function vector(word: number): ValueStep {
  const { to, from } = fieldsOf(word);
  if (matches(word, 0x5f20_fc00, 0x1e20_0000) || matches(word, 0x5f20_0000, 0x1e00_0000)) {
    const opcode = field(word, 16, 3);
    const integer = field(word, 21, 1) === 1;
    const toVector = opcode === 2 || opcode === 3 || (integer && opcode === 7);
    return toVector ? { ...quietStep, reads: real(from) } : { ...quietStep, writes: real(to) };
  }
  if (matches(word, 0x9fe0_8400, 0x0e00_0400)) {
    const opcode = field(word, 11, 4);
    if (opcode === 1 || opcode === 3) return { ...quietStep, reads: real(from) };
    if (opcode === 5 || opcode === 7) return { ...quietStep, writes: real(to) };
    return quietStep;
  }
  const scalar = matches(word, 0x5f20_0000, 0x1e20_0000);
  const kind = field(word, 10, 2);
  if (scalar && kind === 3) return { ...quietStep, consumes: conditionNamed(field(word, 12, 4)) };
  if (scalar && kind === 1) return { ...quietStep, setsFlags: true, consumes: conditionNamed(field(word, 12, 4)) };
  if (scalar && field(word, 10, 6) === 0b001000) return { ...quietStep, setsFlags: true };
  return quietStep;
}
