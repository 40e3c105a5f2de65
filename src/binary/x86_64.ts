// SPDX-License-Identifier: Apache-2.0
/**
 * x86-64 machine code for the rest of Holdfast (instructionSet.ts), over iced-x86. Pure: given bytes.
 */

import { toHex } from "#bytes.ts";
import type { AfterCall, FaultingInstruction } from "#fault.ts";
import { comesBack, comesBackWith } from "./callLoop.ts";
import type {
  InstructionSet,
  MemoryOperand,
  MemoryReference,
  Padding,
  StoppedState,
  ValueUse,
} from "./instructionSet.ts";
import { instructionBytesMax } from "./instructionSet.ts";
import { followValue, type StepAt } from "./valueUse.ts";
import { callBefore, memoryReference } from "./x86_64Call.ts";
import { decodeAt, iced } from "./x86_64Decode.ts";
import type * as Iced from "./x86_64Iced.ts";
import { skipOf } from "./x86_64Skip.ts";
import { stepAt, systemV } from "./x86_64Value.ts";

export const x86_64: InstructionSet = {
  architecture: "x86_64",
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
    return comesBackWith(steps, at, systemV.result, use.test, value);
  },
  faulting,
  memoryOperand,
  padding,
  isPadding: (code, at) => padding(code, at) !== null,
  length: (code, at) => decodeAt(code, at)?.length ?? null,
  format(code, at) {
    const instruction = decodeAt(code, at);
    return instruction === null ? "(bad)" : iced().formatter.format(instruction);
  },
};

function valueUse(code: Uint8Array, at: bigint, from = at): ValueUse {
  return followValue(stepsIn(code, from), at, systemV);
}

const stepsIn =
  (code: Uint8Array, from: bigint): StepAt =>
  (at) =>
    stepAt(code, at, offsetIn(code, at - from));

/** -1 where the address is outside. */
const offsetIn = (code: Uint8Array, distance: bigint): number =>
  distance >= 0n && distance < BigInt(code.length) ? Number(distance) : -1;

function faulting(code: Uint8Array, at: bigint, state?: StoppedState): FaultingInstruction {
  const instruction = decodeAt(code, at);
  if (instruction === null) {
    return { bytes: toHex(code.subarray(0, instructionBytesMax)), lengthBytes: 0, skip: null };
  }
  const lengthBytes = instruction.length;
  return { bytes: toHex(code.subarray(0, lengthBytes)), lengthBytes, skip: skipOf(instruction, state) };
}

function memoryOperand(code: Uint8Array, at: bigint): MemoryOperand | null {
  const instruction = decodeAt(code, at);
  if (instruction === null) return null;
  const { lib, facts } = iced();
  const found = facts.info(instruction);
  let operand: MemoryOperand | null = null;
  for (let index = 0; index < instruction.opCount; index += 1) {
    if (instruction.opKind(index) !== lib.OpKind.Memory) continue;
    const access = accessOf(found.opAccess(index));
    const bytes = lib.MemorySizeExt.size(instruction.memorySize);
    if (access !== null) operand = { ...memoryReference(instruction), bytes, access };
  }
  for (const used of found.usedMemory() as Iced.UsedMemory[]) {
    operand ??= implicitOperand(used);
    used.free();
  }
  found.free();
  return operand;
}

/** Memory that is used without being named: strings, the stack. */
function implicitOperand(used: Iced.UsedMemory): MemoryOperand | null {
  const { lib, parts } = iced();
  const access = accessOf(used.access);
  if (access === null) return null;
  const segment = used.segment === lib.Register.FS ? "fs" : used.segment === lib.Register.GS ? "gs" : null;
  const reference: MemoryReference = {
    base: parts[used.base]?.dwarf ?? null,
    index: parts[used.index]?.dwarf ?? null,
    scale: used.scale,
    extend: "none",
    displacement: BigInt.asIntN(64, used.displacement),
    segment,
  };
  return { ...reference, bytes: lib.MemorySizeExt.size(used.memorySize), access };
}

function accessOf(access: Iced.OpAccess): MemoryOperand["access"] | null {
  const { OpAccess } = iced().lib;
  switch (access) {
    case OpAccess.Read:
    case OpAccess.CondRead:
      return "read";
    case OpAccess.Write:
    case OpAccess.CondWrite:
      return "write";
    case OpAccess.ReadWrite:
    case OpAccess.ReadCondWrite:
      return "readWrite";
    default:
      return null;
  }
}

const fillBytesMax = 64;
const alignmentBytes = 8n;

function padding(code: Uint8Array, at: bigint): Padding {
  const { Mnemonic } = iced().lib;
  const traps: readonly number[] = [Mnemonic.Int3, Mnemonic.Ud2, Mnemonic.Hlt];
  let offset = 0;
  while (offset < Math.min(code.length, fillBytesMax)) {
    const instruction = decodeAt(code, at + BigInt(offset), offset);
    if (instruction === null) break;
    if (traps.includes(instruction.mnemonic)) return offset === 0 ? "trap" : "fill";
    if (instruction.mnemonic !== Mnemonic.Nop) break;
    offset += instruction.length;
  }
  if (offset === 0) return null;
  return (at + BigInt(offset)) % alignmentBytes === 0n && !isEpilogue(code, at, offset) ? "fill" : null;
}

/** Unoptimised code puts a lone no-operation before the end of a function: that is code, not padding. */
function isEpilogue(code: Uint8Array, at: bigint, offset: number): boolean {
  const { Mnemonic } = iced().lib;
  const ends: readonly number[] = [Mnemonic.Leave, Mnemonic.Ret, Mnemonic.Pop];
  const next = decodeAt(code, at + BigInt(offset), offset);
  return next !== null && ends.includes(next.mnemonic);
}
