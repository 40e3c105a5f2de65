// SPDX-License-Identifier: Apache-2.0
/**
 * Applies one unwind row to a frame: computes its CFA and the registers of its caller. Gets memory through the window.
 *
 * Registers that the calling convention lets a callee destroy are null in the caller unless the row says otherwise.
 * Source: DWARF 5, section 6.4.1; psABI supplements for registers without a rule; Arm ARM, XPACI, for signed pointers.
 */
import { BinaryError } from "#errors.ts";
import type { SavedVector } from "#fault.ts";
import { callingConvention } from "./callingConvention.ts";
import type { Row, Rule } from "./cfi.ts";
import { evaluate } from "./expression.ts";
import type { Caller, OpenFrame, UnwindEnd, UnwindMemory } from "./unwindTypes.ts";

/** User addresses are below this on both architectures, with 5-level and 52-bit tables too. */
const addressLimit = 1n << 57n;

/** The CFA by the row; null where a register or a word that it needs is not known, or it is no user address. */
export function frameAddress(row: Row, frame: OpenFrame, memory: UnwindMemory): bigint | null {
  const cfa =
    row.cfaExpression === null
      ? addOffset(frame.registers[row.cfaRegister] ?? null, row.cfaOffset)
      : compute(row.cfaExpression, null, frame, memory);
  return cfa !== null && cfa > 0n && cfa < addressLimit ? cfa : null;
}

/** The caller by the row, once `frame.cfa` is set. */
export function applyRow(row: Row, frame: OpenFrame, memory: UnwindMemory): Caller | UnwindEnd {
  const convention = callingConvention[memory.codeMap.architecture];
  const { registers } = frame;
  const { returnColumn, signal } = row.fde.cie;
  const next: (bigint | null)[] = signal ? registers.slice() : new Array(convention.names.length).fill(null);
  if (!signal) for (const register of convention.calleeSaved) next[register] = registers[register] ?? null;
  if (convention.link !== null) next[convention.link] = registers[convention.link] ?? null;
  next[convention.sp] = frame.cfa;
  next[convention.pc] = null;
  let isReturnKept = true;
  for (const rule of row.rules) {
    if (rule.register === returnColumn) isReturnKept = rule.kind === "same";
    if (rule.register < convention.names.length) next[rule.register] = restored(rule, frame, memory);
  }
  if (convention.link !== null && !signal) next[convention.sp] = frame.cfa = aboveReturn(row, frame.cfa ?? 0n);
  frame.isSignal = signal;
  // In the middle of the stack the link register is long overwritten: without a rule for it the row is no help.
  if (isReturnKept && (convention.link === null || !frame.interrupted)) return "lost";
  const found = next[returnColumn] ?? null;
  if (found === null) return "unreadable";
  next[convention.pc] = convention.link === null ? found : stripped(found, memory.mask);
  if (convention.link !== null && !signal) next[convention.link] = next[convention.pc]!;
  const vectors = restoredVectors(row, frame, memory);
  return { registers: next, vectors, foundBy: signal ? "signal" : "cfi", interrupted: signal, isCertain: true };
}

/** Those of the frame, with what it saved on its stack in place of what the frames inside it did. */
function restoredVectors(row: Row, frame: OpenFrame, memory: UnwindMemory): readonly SavedVector[] {
  const { calleeSavedVectors } = callingConvention[memory.codeMap.architecture];
  if (calleeSavedVectors.length === 0) return frame.vectors;
  let { vectors } = frame;
  for (const rule of row.rules) {
    if (rule.kind !== "offset" || !calleeSavedVectors.includes(rule.register)) continue;
    const { register } = rule;
    const value = restored(rule, frame, memory);
    if (value !== null) vectors = [...vectors.filter((one) => one.register !== register), { register, value }];
  }
  return vectors;
}

/**
 * glibc 2.36 on AArch64 says of `_dl_runtime_resolve` that its CFA is below the pair that the linkage stub pushed, and the
 * return address above it. No slot of a frame can lie above its CFA, so the CFA is the end of that pair.
 */
function aboveReturn(row: Row, cfa: bigint): bigint {
  const rule = row.rules.find(({ register }) => register === row.fde.cie.returnColumn);
  return rule?.kind === "offset" && rule.operand >= 0 ? cfa + BigInt(rule.operand + 8) : cfa;
}

/** A return address without its authentication code. Bit 55 tells user from kernel addresses; those stay as they are. */
export const stripped = (value: bigint, mask: bigint): bigint => (((value >> 55n) & 1n) === 0n ? value & mask : value);

function restored(rule: Rule, frame: OpenFrame, memory: UnwindMemory): bigint | null {
  const cfa = frame.cfa ?? 0n;
  switch (rule.kind) {
    case "offset":
      return memory.window.word(Number(cfa) + rule.operand);
    case "valueOffset":
      return addOffset(cfa, rule.operand);
    case "same":
      return frame.registers[rule.register] ?? null;
    case "register":
      return frame.registers[rule.operand] ?? null;
    case "undefined":
      return null;
    case "expression": {
      const at = compute(rule.expression!, cfa, frame, memory);
      return at === null ? null : memory.window.word(Number(at));
    }
    case "valueExpression":
      return compute(rule.expression!, cfa, frame, memory);
  }
}

const addOffset = (value: bigint | null, offset: number): bigint | null =>
  value === null ? null : BigInt.asUintN(64, value + BigInt(offset));

function compute(code: Uint8Array, initial: bigint | null, frame: OpenFrame, memory: UnwindMemory): bigint | null {
  const { place } = frame;
  const bias = place === null ? 0n : memory.codeMap.modules[place.module]!.bias;
  try {
    const { registers } = frame;
    const { window } = memory;
    return evaluate(code, initial, {
      registers,
      bias,
      readValue: (from, lengthBytes) => window.value(Number(from), lengthBytes),
    });
  } catch (error) {
    // A damaged expression is as good as none: the frame is then found by other means.
    if (error instanceof BinaryError) return null;
    throw error;
  }
}
