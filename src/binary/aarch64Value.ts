// SPDX-License-Identifier: Apache-2.0
/**
 * One AArch64 instruction as a step of a followed value (valueUse.ts): what it copies, tests, reads and overwrites.
 *
 * Vector registers are not followed; SVE and unknown words end the path. Source: Arm ARM DDI 0487 J.a, C4.1.92 to C4.1.96.
 */
import { type A64BranchCondition, type A64Flow, decodeFlow, field, matches, wordAt } from "./aarch64Decode.ts";
import { type A64Memory, decodeMemory } from "./aarch64Memory.ts";
import { conditionNamed, dataProcessing, quietStep } from "./aarch64Registers.ts";
import type { Condition } from "./instructionSet.ts";
import type { Convention, CopyStep, Place, PlaceTest, ValueBits, ValueStep } from "./valueUse.ts";

const framePointer = 29;
const linkRegister = 30;
/** Also the zero register: steps are built so that 31 is the stack pointer only. */
export const stackPointer = 31;

/** Procedure Call Standard for the Arm 64-bit Architecture, 6.1.1. */
export const aapcs64: Convention = {
  result: 0,
  resultBits: 64,
  argumentRegisters: new Set([0, 1, 2, 3, 4, 5, 6, 7, 8]),
  savedRegisters: new Set([19, 20, 21, 22, 23, 24, 25, 26, 27, 28, framePointer, stackPointer]),
  slotBases: new Map([
    [stackPointer, "sp"],
    [framePointer, "fp"],
  ]),
};

export function stepAt(code: Uint8Array, at: bigint, offset: number): ValueStep | null {
  const word = wordAt(code, offset);
  if (word === null) return null;
  const memory = decodeMemory(word);
  if (memory !== null) return memoryStep(memory);
  const flow = decodeFlow(word, at);
  if (flow.kind !== "next") return flowStep(flow);
  return systemStep(word) ?? dataProcessing(word);
}

function flowStep(flow: A64Flow): ValueStep {
  switch (flow.kind) {
    case "next":
    case "nop":
      return quietStep;
    case "jump":
      return { ...quietStep, flow: "jump", target: flow.target };
    case "call":
      return { ...quietStep, flow: "call", writes: [linkRegister] };
    case "callPointer":
      return { ...quietStep, flow: "call", writes: [linkRegister], reads: [flow.register] };
    case "jumpPointer":
      return { ...quietStep, flow: "stop", reads: [flow.register] };
    case "return":
      return { ...quietStep, flow: "return" };
    case "branch":
      return { ...quietStep, flow: "branch", target: flow.target, ...branchOn(flow.by) };
    case "systemCall":
      return { ...quietStep, reads: [0, 1, 2, 3, 4, 5, 8], writes: [0] };
    case "trap":
      return { ...quietStep, flow: "stop" };
  }
}

function branchOn(by: A64BranchCondition): Partial<ValueStep> {
  if (by.kind === "flags") return { consumes: conditionNamed(by.condition) };
  const place = by.register;
  if (place === 31) return {};
  if ("bits" in by) {
    const condition: Condition = by.kind === "zero" ? "equal" : "notEqual";
    return { tests: [{ place, bits: by.bits, mask: null, against: 0n, condition }] };
  }
  const condition: Condition = by.kind === "bitSet" ? "notEqual" : "equal";
  const bits = by.bit < 32 ? 32 : 64;
  return { tests: [{ place, bits, mask: 1n << BigInt(by.bit), against: 0n, condition } satisfies PlaceTest] };
}

/** MRS, MSR, SYS and SYSL; barriers touch nothing. */
function systemStep(word: number): ValueStep | null {
  if (!matches(word, 0xffc0_0000, 0xd500_0000)) return null;
  const register = field(word, 0, 5);
  if (register === 31) return quietStep;
  return field(word, 21, 1) === 1 ? { ...quietStep, writes: [register] } : { ...quietStep, reads: [register] };
}

function memoryStep(memory: A64Memory): ValueStep {
  const slots = slotsOf(memory);
  const address = [slots === null ? memory.addressBase : null, memory.index].filter((place) => place !== null);
  const plainStore = memory.access === "write" && memory.status === null;
  const stored = memory.stores.filter((register) => register !== 31);
  const step = {
    reads: [...address, ...(plainStore ? [] : stored)] as Place[],
    writes: [...memory.loads, memory.status ?? 31].filter((register) => register !== 31) as Place[],
    copies: [] as CopyStep[],
  };
  const bits = Math.min(memory.registerBits, (memory.bytes * 8) / Math.max(1, memory.loads.length)) as ValueBits;
  if (plainStore) {
    for (const [index, from] of memory.stores.entries()) {
      const to = slots?.[index] ?? null;
      if (to !== null) step.writes.push(to);
      if (from !== 31) step.copies.push({ from, to, bits: memory.registerBits, offset: 0n });
    }
  } else if (slots !== null && memory.access === "read") {
    for (const [index, to] of memory.loads.entries()) {
      const from = slots[index];
      if (from !== undefined && to !== 31) step.copies.push({ from, to, bits, offset: 0n });
    }
  } else if (slots !== null) step.reads.push(...slots);
  if (memory.writeBack !== null && memory.addressBase !== null) step.writes.push(memory.addressBase);
  return { ...quietStep, ...step };
}

/** The stack slots of a plain access relative to sp or x29, one for each register; null for all other memory. */
function slotsOf(memory: A64Memory): readonly string[] | null {
  const name = memory.addressBase === null ? undefined : aapcs64.slotBases.get(memory.addressBase);
  if (name === undefined || memory.index !== null || memory.writeBack !== null) return null;
  const count = Math.max(1, memory.loads.length + (memory.access === "write" ? memory.stores.length : 0));
  const each = memory.bytes / count;
  return Array.from({ length: count }, (_, index) => `${name}${memory.displacement + BigInt(index * each)}`);
}
