// SPDX-License-Identifier: Apache-2.0
/**
 * AArch64 machine code for the rest of Holdfast (instructionSet.ts), by our own decoder. Pure: given bytes.
 */

import { hex, toHex } from "#bytes.ts";
import type { AfterCall, FaultingInstruction } from "#fault.ts";
import { decodeFlow, wordAt, wordBytes } from "./aarch64Decode.ts";
import { decodeMemory } from "./aarch64Memory.ts";
import { skipOf } from "./aarch64Skip.ts";
import { formatMemory } from "./aarch64Text.ts";
import { aapcs64, stepAt } from "./aarch64Value.ts";
import { comesBack, comesBackWith } from "./callLoop.ts";
import type { CallSite, InstructionSet, MemoryOperand, Padding, StoppedState, ValueUse } from "./instructionSet.ts";
import { followValue, type StepAt } from "./valueUse.ts";

export const aarch64: InstructionSet = {
  architecture: "aarch64",
  callBefore,
  valueUse,
  afterCall(code, at, from) {
    const { kind } = valueUse(code, at, from);
    return kind === "returned" ? "unknown" : (kind satisfies AfterCall);
  },
  testOf(code, at, from) {
    const use = valueUse(code, at, from);
    return use.kind === "tested" ? use.test : null;
  },
  comesBack(code, at, from, value) {
    const steps = stepsIn(code, from);
    if (value === undefined) return comesBack(steps, at);
    const use = valueUse(code, at, from);
    if (use.kind !== "tested" || use.test === null) return null;
    return comesBackWith(steps, at, aapcs64.result, use.test, value);
  },
  faulting,
  memoryOperand,
  padding,
  isPadding: (code, at) => padding(code, at) !== null,
  length: (code) => (code.length < wordBytes ? null : wordBytes),
  format,
};

function callBefore(before: Uint8Array, returnAddress: bigint): CallSite {
  const word = wordAt(before, before.length - wordBytes);
  if (word === null) return { kind: "none" };
  const flow = decodeFlow(word, returnAddress - BigInt(wordBytes));
  const lengthBytes = wordBytes;
  if (flow.kind === "call") return { kind: "direct", target: flow.target, lengthBytes };
  if (flow.kind === "callPointer") return { kind: "pointer", register: flow.register, memory: null, lengthBytes };
  return { kind: "none" };
}

function valueUse(code: Uint8Array, at: bigint, from = at): ValueUse {
  return followValue(stepsIn(code, from), at, aapcs64);
}

const stepsIn =
  (code: Uint8Array, from: bigint): StepAt =>
  (at) => {
    const distance = at - from;
    return stepAt(code, at, distance >= 0n && distance < BigInt(code.length) ? Number(distance) : -1);
  };

function faulting(code: Uint8Array, _at: bigint, state?: StoppedState): FaultingInstruction {
  const word = wordAt(code, 0);
  if (word === null) return { bytes: toHex(code.subarray(0, wordBytes)), lengthBytes: 0, skip: null };
  const memory = decodeMemory(word);
  const skip = memory === null ? null : skipOf(memory, state);
  return { bytes: toHex(code.subarray(0, wordBytes)), lengthBytes: wordBytes, skip };
}

function memoryOperand(code: Uint8Array, at: bigint): MemoryOperand | null {
  const word = wordAt(code, 0);
  const memory = word === null ? null : decodeMemory(word);
  if (memory === null || memory.access === "prefetch") return null;
  const { addressBase: base, index, scale, extend, bytes, access, displacement } = memory;
  const origin = base === null ? at : 0n;
  return { base, index, scale, extend, displacement: origin + displacement, segment: null, bytes, access };
}

function padding(code: Uint8Array, at: bigint): Padding {
  for (let offset = 0; ; offset += wordBytes) {
    const word = wordAt(code, offset);
    if (word === null) return offset === 0 ? null : "fill";
    const flow = decodeFlow(word, at + BigInt(offset));
    if (flow.kind === "trap") return offset === 0 ? "trap" : "fill";
    if (flow.kind === "nop") continue;
    return offset > 0 && (at + BigInt(offset)) % alignmentBytes === 0n ? "fill" : null;
  }
}

const alignmentBytes = 8n;

function format(code: Uint8Array, at: bigint): string {
  const word = wordAt(code, 0);
  if (word === null) return "(bad)";
  const memory = decodeMemory(word);
  if (memory !== null) return formatMemory(memory, word, at);
  const flow = decodeFlow(word, at);
  switch (flow.kind) {
    case "jump":
    case "call":
      return `${flow.kind === "call" ? "bl" : "b"} ${hex(flow.target)}`;
    case "jumpPointer":
    case "callPointer":
      return `${flow.kind === "callPointer" ? "blr" : "br"} x${flow.register}`;
    case "branch":
      return `${branchName(flow.by.kind)} ${hex(flow.target)}`;
    case "return":
      return "ret";
    case "trap":
      return flow.name;
    case "systemCall":
      return "svc";
    case "nop":
      return "nop";
    case "next":
      return `.inst ${hex(word)}`;
  }
}

const branchName = (kind: string): string =>
  ({ flags: "b.cond", zero: "cbz", notZero: "cbnz", bitClear: "tbz", bitSet: "tbnz" })[kind] ?? "b.cond";
