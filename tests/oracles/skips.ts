// SPDX-License-Identifier: Apache-2.0
/**
 * Completed instructions against the processor: each runs on memory that is zero, and must leave the registers that
 * `faulting` says. Gives what was compared, what was refused, and each difference as one line.
 */
import type { InstructionSet } from "#binary/instructionSet.ts";
import { effectiveAddress, skipWrites } from "#binary/instructionSet.ts";
import { decodeAt, flagsDwarf, iced } from "#binary/x86_64Decode.ts";
import type { Random } from "#clock.ts";
import type { InstructionSkip } from "#fault.ts";
import { type Execution, execute, flagsSlot, scratch } from "./execute.ts";
import { askPackage, iced as packaged } from "./iced.ts";
import { asRegisters, drawRegisters } from "./registers.ts";

export type SkipComparison = { compared: number; refused: number; faulted: number; readonly differences: string[] };

type Case = Execution & { readonly skip: InstructionSkip; readonly ignoredFlags: bigint };
const statusFlags = 0x8d5n;
const directionFlag = 0x400n;
const stackPointer = { x86_64: 7, aarch64: 31 } as const;

export function compareSkips(
  set: InstructionSet,
  codes: readonly Uint8Array[],
  repeats: number,
  random: Random,
  change: (skip: InstructionSkip) => InstructionSkip = (skip) => skip,
): SkipComparison {
  const comparison: SkipComparison = { compared: 0, refused: 0, faulted: 0, differences: [] };
  const cases: Case[] = [];
  for (const code of codes) {
    for (let repeat = 0; repeat < repeats; repeat += 1) {
      const state = stateFor(set, code, random);
      if (state === null) break;
      const { skip } = set.faulting(code, 0n, {
        registers: asRegisters(set.architecture, state),
        faultAddress: scratch,
      });
      if (skip === null) comparison.refused += 1;
      else cases.push({ code, registers: state, skip: change(skip), ignoredFlags: ignoredFlags(set, code) });
    }
  }
  for (const [index, { signal, registers }] of execute(set.architecture, cases).entries()) {
    const item = cases[index] as Case;
    if (signal !== 0) comparison.faulted += 1;
    else comparison.compared += 1;
    const difference = signal === 0 ? differenceOf(set, item, registers) : "";
    if (difference !== "")
      comparison.differences.push(`${item.code.toHex()} ${set.format(item.code, 0n)}${difference}`);
  }
  return comparison;
}

/** Registers by which the memory operand is the scratch memory; null where that cannot be arranged. */
function stateFor(set: InstructionSet, code: Uint8Array, random: Random): bigint[] | null {
  const memory = set.memoryOperand(code, 0n);
  if (memory === null || memory.base === null || memory.segment !== null) return null;
  const { base, index, scale, displacement } = memory;
  if (base === stackPointer[set.architecture] || base === index) return null;
  const registers = drawRegisters(set.architecture, random);
  if (index !== null) registers[index] = BigInt(Math.floor(random() * 8));
  registers[base] = BigInt.asUintN(
    64,
    scratch - displacement - (index === null ? 0n : (registers[index] ?? 0n) * BigInt(scale)),
  );
  if (set.architecture === "x86_64") arrangeString(code, registers, random);
  const address = effectiveAddress(memory, asRegisters(set.architecture, registers));
  return address === scratch ? registers : null;
}

/** A string instruction writes the scratch memory, reads beside it, and repeats a few times. */
function arrangeString(code: Uint8Array, registers: bigint[], random: Random): void {
  const instruction = decodeAt(code, 0n);
  if (instruction === null || !instruction.isStringInstruction) return;
  const [rcx, rsi, rdi] = [2, 4, 5];
  registers[rdi] = scratch;
  registers[rsi] = storesString(instruction.mnemonic) ? scratch + 256n : scratch;
  registers[rcx] = BigInt(1 + Math.floor(random() * 20));
  if (random() < 0.3) registers[flagsSlot] = (registers[flagsSlot] ?? 0n) | directionFlag;
}

/** MOVS faults where it writes; LODS where it reads. */
function storesString(mnemonic: number): boolean {
  const { Mnemonic } = iced().lib;
  return mnemonic !== Mnemonic.Lodsb && mnemonic !== Mnemonic.Lodsd && mnemonic !== Mnemonic.Lodsq;
}

/** Status flags that the instruction leaves undefined. */
function ignoredFlags(set: InstructionSet, code: Uint8Array): bigint {
  if (set.architecture === "aarch64") return 0n;
  const { RflagsBits } = packaged;
  const undefinedBits = askPackage(code, ({ rflagsUndefined }) => rflagsUndefined) ?? 0;
  const masks: [number, bigint][] = [
    [RflagsBits.OF, 0x800n],
    [RflagsBits.SF, 0x80n],
    [RflagsBits.ZF, 0x40n],
    [RflagsBits.AF, 0x10n],
    [RflagsBits.PF, 0x4n],
    [RflagsBits.CF, 0x1n],
  ];
  return masks.reduce((sum, [bit, mask]) => ((undefinedBits & bit) === 0 ? sum : sum | mask), 0n);
}

function differenceOf(set: InstructionSet, item: Case, got: readonly bigint[]): string {
  const expected = [...item.registers];
  for (const [dwarf, value] of skipWrites(item.skip)) expected[dwarf === flagsDwarf ? flagsSlot : dwarf] = value;
  const last = set.architecture === "x86_64" ? 16 : 31;
  let text = "";
  for (let dwarf = 0; dwarf < last; dwarf += 1) {
    if (set.architecture === "x86_64" && dwarf === stackPointer.x86_64) continue;
    if (got[dwarf] !== expected[dwarf])
      text += ` r${dwarf}=${got[dwarf]?.toString(16)}, not ${expected[dwarf]?.toString(16)}`;
  }
  const mask = (set.architecture === "x86_64" ? statusFlags : 0xf000_0000n) & ~item.ignoredFlags;
  const flags = [got[flagsSlot] ?? 0n, expected[flagsSlot] ?? 0n].map((value) => value & mask);
  return flags[0] === flags[1] ? text : `${text} flags=${flags[0]?.toString(16)}, not ${flags[1]?.toString(16)}`;
}
