// SPDX-License-Identifier: Apache-2.0
/**
 * Steps of a followed value against the processor: an instruction runs once as it is and once with each register changed.
 * What changes besides shows what it reads; the step must say so, and name every register it writes, every copy and the
 * flags of every test. Gives each difference as one line.
 */
import { branchTaken, type Condition } from "#binary/instructionSet.ts";
import type { PlaceTest, ValueStep } from "#binary/valueUse.ts";
import type { Random } from "#clock.ts";
import type { Architecture } from "#fault.ts";
import { type Executed, type Execution, execute, flagsSlot } from "./execute.ts";
import { drawRegisters, drawValue } from "./registers.ts";

export type StepComparison = { compared: number; faulted: number; tests: number; readonly differences: string[] };
export type StepAt = (code: Uint8Array) => ValueStep | null;

type Layout = { readonly registers: readonly number[]; readonly flags: bigint; readonly stackPointer: number };
const layouts: Record<Architecture, Layout> = {
  x86_64: { registers: [0, 1, 2, 3, 4, 5, 6, 8, 9, 10, 11, 12, 13, 14, 15], flags: 0x8d5n, stackPointer: 7 },
  aarch64: { registers: Array.from({ length: 31 }, (_, register) => register), flags: 0xf000_0000n, stackPointer: 31 },
};

export function compareSteps(
  architecture: Architecture,
  codes: readonly Uint8Array[],
  stepAt: StepAt,
  random: Random,
): StepComparison {
  const { registers } = layouts[architecture];
  const comparison: StepComparison = { compared: 0, faulted: 0, tests: 0, differences: [] };
  const runs = codes.flatMap((code) => variants(architecture, code, random));
  const answers = execute(architecture, runs);
  const each = registers.length + 2;
  for (const [number, code] of codes.entries()) {
    const step = stepAt(code);
    const [before, after] = [runs, answers].map((list) => list.slice(number * each, (number + 1) * each));
    if (step === null || after === undefined || before === undefined) continue;
    const done = after as Executed[];
    if (done.some(({ signal }) => signal !== 0)) {
      comparison.faulted += 1;
      continue;
    }
    comparison.compared += 1;
    for (const line of differencesOf(layouts[architecture], step, before as Execution[], done)) {
      comparison.differences.push(`${code.toHex()} ${line}`);
    }
    comparison.tests += testsOf(step).length;
    for (const line of testDifferences(architecture, step, before as Execution[], done)) {
      comparison.differences.push(`${code.toHex()} ${line}`);
    }
  }
  return comparison;
}

/** The instruction as it is, then with each register changed, then with the flags changed. */
function variants(architecture: Architecture, code: Uint8Array, random: Random): Execution[] {
  const { registers, flags } = layouts[architecture];
  const plain = drawRegisters(architecture, random);
  const changed = (slot: number, by: bigint): Execution => {
    const record = [...plain];
    record[slot] = (record[slot] ?? 0n) ^ by;
    return { code, registers: record };
  };
  const bit = (): bigint => 1n << BigInt(Math.floor(random() * 64));
  return [
    { code, registers: plain },
    ...registers.map((register) => changed(register, drawValue(random) ^ bit())),
    changed(flagsSlot, flags),
  ];
}

function differencesOf(
  layout: Layout,
  step: ValueStep,
  before: readonly Execution[],
  after: readonly Executed[],
): string[] {
  const lines: string[] = [];
  const writes = new Set(step.writes);
  const reads = new Set([
    ...step.reads,
    ...step.copies.map(({ from }) => from),
    ...step.tests.map(({ place }) => place),
  ]);
  const plain = after[0]?.registers ?? [];
  const flagsOf = (record: readonly bigint[]): bigint => (record[flagsSlot] ?? 0n) & layout.flags;
  for (const [run, { registers }] of after.entries()) {
    const given = before[run]?.registers ?? [];
    for (const register of layout.registers) {
      if (registers[register] !== given[register] && !writes.has(register)) lines.push(`writes r${register}, unsaid`);
    }
    if (flagsOf(registers) !== flagsOf(given) && !step.setsFlags) lines.push("sets flags, unsaid");
    const changed = layout.registers[run - 1];
    const depends = layout.registers.some((register) => {
      if (registers[register] === plain[register]) return false;
      return (
        register !== changed || (writes.has(register) && !keepsUpper(given, before[0], registers, plain, register))
      );
    });
    if (run === 0) continue;
    if (changed === undefined && depends && step.consumes === null) lines.push("takes flags, unsaid");
    const flagsMoved = changed !== undefined && flagsOf(registers) !== flagsOf(plain);
    if (changed !== undefined && (depends || flagsMoved) && !reads.has(changed))
      lines.push(`reads r${changed}, unsaid`);
  }
  return [...new Set([...lines, ...copyDifferences(layout, step, before, plain)])];
}

/** True where a register differs just as it did before, but for 8 or 16 bits that were overwritten. */
function keepsUpper(
  given: readonly bigint[],
  first: Execution | undefined,
  got: readonly bigint[],
  plain: readonly bigint[],
  register: number,
): boolean {
  const before = (given[register] ?? 0n) ^ (first?.registers[register] ?? 0n);
  const after = (got[register] ?? 0n) ^ (plain[register] ?? 0n);
  return [0xffn, 0xffffn, 0xff00n].some((hole) => after === (before & ~hole));
}

function copyDifferences(
  layout: Layout,
  step: ValueStep,
  before: readonly Execution[],
  plain: readonly bigint[],
): string[] {
  const lines: string[] = [];
  for (const { from, to, bits, offset } of step.copies) {
    if (typeof from !== "number" || typeof to !== "number" || from === layout.stackPointer) continue;
    const expected = BigInt.asUintN(bits, (before[0]?.registers[from] ?? 0n) + offset);
    if (BigInt.asUintN(bits, plain[to] ?? 0n) !== expected) lines.push(`r${to} is no copy of r${from}`);
  }
  return lines;
}

/** Tests whose flags this instruction sets by itself against a known constant. */
const testsOf = (step: ValueStep): readonly PlaceTest[] =>
  [...step.tests, ...(step.resultTest === null ? [] : [step.resultTest])].filter(
    ({ place, against }) => against !== null && typeof place === "number" && step.setsFlags && step.consumes === null,
  );

function testDifferences(
  architecture: Architecture,
  step: ValueStep,
  before: readonly Execution[],
  after: readonly Executed[],
): string[] {
  for (const test of testsOf(step)) {
    for (const [run, { registers }] of after.entries()) {
      const value = before[run]?.registers[test.place as number] ?? 0n;
      const flags = readFlags(architecture, registers[flagsSlot] ?? 0n);
      const conditions: [Condition, boolean][] = [
        ["equal", flags.zero],
        ["negative", flags.negative],
        ["less", flags.negative !== flags.overflow],
        ["greater", !flags.zero && flags.negative === flags.overflow],
      ];
      if (test.carryDiffers !== true && test.mask === null && test.against !== 0n)
        conditions.push(["below", flags.borrow]);
      for (const [condition, holds] of conditions) {
        const taken = branchTaken({ ...test, offset: 0n, against: test.against ?? 0n, condition }, value);
        if (taken !== holds) return [`${condition} is ${holds} for ${value.toString(16)}`];
      }
    }
  }
  return [];
}

type Flags = { zero: boolean; negative: boolean; overflow: boolean; borrow: boolean };

function readFlags(architecture: Architecture, flags: bigint): Flags {
  const bit = (index: bigint): boolean => ((flags >> index) & 1n) === 1n;
  if (architecture === "aarch64") return { zero: bit(30n), negative: bit(31n), overflow: bit(28n), borrow: !bit(29n) };
  return { zero: bit(6n), negative: bit(7n), overflow: bit(11n), borrow: bit(0n) };
}
