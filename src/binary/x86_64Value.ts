// SPDX-License-Identifier: Apache-2.0
/**
 * One x86-64 instruction as a step of a followed value (valueUse.ts): what it copies, tests, reads and overwrites.
 *
 * Slots are memory at rsp or rbp plus a constant; where rbp is a general register this still names one place.
 */
import type { Condition } from "./instructionSet.ts";
import type { Convention, Place, PlaceTest, ValueBits, ValueStep } from "./valueUse.ts";
import { memoryReference } from "./x86_64Call.ts";
import { decodeAt, iced } from "./x86_64Decode.ts";
import type * as Iced from "./x86_64Iced.ts";

const rax = 0;
const rsp = 7;
const rbp = 6;

/** System V ABI for x86-64, section 3.2. */
export const systemV: Convention = {
  result: rax,
  resultBits: 64,
  argumentRegisters: new Set([5, 4, 1, 2, 8, 9]),
  savedRegisters: new Set([3, rbp, rsp, 12, 13, 14, 15]),
  slotBases: new Map([
    [rsp, "sp"],
    [rbp, "fp"],
  ]),
};

export function stepAt(code: Uint8Array, at: bigint, offset: number): ValueStep | null {
  const instruction = decodeAt(code, at, offset);
  return instruction === null ? null : stepOf(instruction);
}

type Draft = { -readonly [Key in keyof ValueStep]: ValueStep[Key] };

function stepOf(instruction: Iced.Instruction): ValueStep {
  const { rflagsModified } = instruction;
  const draft: Draft = {
    lengthBytes: instruction.length,
    reads: [],
    writes: [],
    copies: [],
    tests: [],
    resultTest: null,
    setsFlags: rflagsModified !== 0,
    consumes: conditionOf(instruction),
    flow: flowOf(instruction),
    target: null,
  };
  if (draft.flow === "jump" || draft.flow === "branch") draft.target = instruction.nearBranchTarget;
  const known = !usesHighByte(instruction) && (readsAsTest(instruction, draft) || readsAsCopy(instruction, draft));
  if (!known) readByTable(instruction, draft);
  return draft;
}

function flowOf(instruction: Iced.Instruction): ValueStep["flow"] {
  const { FlowControl } = iced().lib;
  switch (instruction.flowControl) {
    case FlowControl.Next:
      return "next";
    case FlowControl.UnconditionalBranch:
      return "jump";
    case FlowControl.ConditionalBranch:
      return "branch";
    case FlowControl.Return:
      return "return";
    case FlowControl.IndirectCall:
      return "call";
    case FlowControl.Call:
      return instruction.isCallNear ? "call" : "stop";
    default:
      return "stop";
  }
}

function conditionOf(instruction: Iced.Instruction): Condition | null {
  if (instruction.rflagsRead === 0) return null;
  return conditions().get(instruction.conditionCode) ?? "other";
}

let conditionsByCode: ReadonlyMap<Iced.ConditionCode, Condition> | undefined;

function conditions(): ReadonlyMap<Iced.ConditionCode, Condition> {
  const { ConditionCode } = iced().lib;
  conditionsByCode ??= new Map<Iced.ConditionCode, Condition>([
    [ConditionCode.e, "equal"],
    [ConditionCode.ne, "notEqual"],
    [ConditionCode.l, "less"],
    [ConditionCode.le, "lessEqual"],
    [ConditionCode.g, "greater"],
    [ConditionCode.ge, "greaterEqual"],
    [ConditionCode.b, "below"],
    [ConditionCode.be, "belowEqual"],
    [ConditionCode.a, "above"],
    [ConditionCode.ae, "aboveEqual"],
    [ConditionCode.s, "negative"],
    [ConditionCode.ns, "notNegative"],
  ]);
  return conditionsByCode;
}

/** ah, ch, dh and bh are no place of their own: what is in them is not the value. */
function usesHighByte(instruction: Iced.Instruction): boolean {
  const { Register } = iced().lib;
  const high = (register: Iced.Register): boolean => register >= Register.AH && register <= Register.BH;
  return high(instruction.op0Register) || high(instruction.op1Register);
}

/** Operand `index` as a place: a general register or a stack slot; null for all else. */
function placeOf(instruction: Iced.Instruction, index: number): Place | null {
  const { lib, parts } = iced();
  const kind = instruction.opKind(index);
  if (kind === lib.OpKind.Register) return parts[instruction.opRegister(index)]?.dwarf ?? null;
  return kind === lib.OpKind.Memory ? slotOf(instruction) : null;
}

function slotOf(instruction: Iced.Instruction): string | null {
  const { base, index, displacement, segment } = memoryReference(instruction);
  if (base === null || index !== null || segment !== null) return null;
  const name = systemV.slotBases.get(base);
  return name === undefined ? null : `${name}${displacement}`;
}

/** Registers that make up the address of a memory operand; none for a slot, whose place stands for it. */
function addressReads(instruction: Iced.Instruction): Place[] {
  const { base, index } = memoryReference(instruction);
  return [base, index].filter((register) => register !== null);
}

function bitsOf(instruction: Iced.Instruction, index: number): ValueBits {
  const { lib, parts } = iced();
  if (instruction.opKind(index) === lib.OpKind.Register) return parts[instruction.opRegister(index)]?.bits ?? 64;
  return (lib.MemorySizeExt.size(instruction.memorySize) * 8) as ValueBits;
}

const isMemory = (instruction: Iced.Instruction, index: number): boolean =>
  instruction.opKind(index) === iced().lib.OpKind.Memory;
const isRegister = (instruction: Iced.Instruction, index: number): boolean =>
  instruction.opKind(index) === iced().lib.OpKind.Register;

/** CMP and TEST, and OR of a register with itself. */
function readsAsTest(instruction: Iced.Instruction, draft: Draft): boolean {
  const { Mnemonic } = iced().lib;
  const same = isRegister(instruction, 0) && instruction.op0Register === instruction.op1Register;
  const { mnemonic } = instruction;
  const isTest = mnemonic === Mnemonic.Test || (mnemonic === Mnemonic.Or && same);
  if (!isTest && mnemonic !== Mnemonic.Cmp) return false;
  const bits = bitsOf(instruction, 0);
  const left = placeOf(instruction, 0);
  const right = placeOf(instruction, 1);
  const test = (place: Place, mask: bigint | null, against: bigint | null): PlaceTest => ({
    place,
    bits,
    mask,
    against,
    condition: null,
  });
  const hasConstant = !isRegister(instruction, 1) && !isMemory(instruction, 1);
  const constant = hasConstant ? instruction.immediate(1) : null;
  if (isTest && same && left !== null) draft.tests = [test(left, null, 0n)];
  else if (isTest && left !== null && constant !== null) draft.tests = [test(left, constant, 0n)];
  else draft.tests = [left, right].filter((place) => place !== null).map((place) => test(place, null, constant));
  if ((isMemory(instruction, 0) || isMemory(instruction, 1)) && slotOf(instruction) === null) {
    draft.reads = addressReads(instruction);
  }
  return true;
}

/** MOV and its widening forms, LEA with one register, PUSH, ADD and SUB of a constant. */
function readsAsCopy(instruction: Iced.Instruction, draft: Draft): boolean {
  const { Mnemonic } = iced().lib;
  switch (instruction.mnemonic) {
    case Mnemonic.Mov:
    case Mnemonic.Movzx:
    case Mnemonic.Movsx:
    case Mnemonic.Movsxd:
      return readMove(instruction, draft);
    case Mnemonic.Cdqe:
      draft.copies = [{ from: rax, to: rax, bits: 32, offset: 0n }];
      draft.writes = [rax];
      return true;
    case Mnemonic.Lea:
      return readLea(instruction, draft);
    case Mnemonic.Push:
      if (!isRegister(instruction, 0)) return false;
      draft.copies = [{ from: placeOf(instruction, 0) ?? rsp, to: null, bits: 64, offset: 0n }];
      draft.writes = [rsp];
      return true;
    case Mnemonic.Add:
    case Mnemonic.Sub:
    case Mnemonic.Inc:
    case Mnemonic.Dec:
    case Mnemonic.And:
      return readArithmetic(instruction, draft);
    default:
      return false;
  }
}

function readMove(instruction: Iced.Instruction, draft: Draft): boolean {
  const to = placeOf(instruction, 0);
  const from = placeOf(instruction, 1);
  const toMemory = isMemory(instruction, 0);
  const touchesMemory = toMemory || isMemory(instruction, 1);
  if (touchesMemory && slotOf(instruction) === null) draft.reads = addressReads(instruction);
  if (to !== null) draft.writes = [to];
  if (from === null || (to === null && !toMemory)) return true;
  const bits = Math.min(bitsOf(instruction, 0), bitsOf(instruction, 1)) as ValueBits;
  draft.copies = [{ from, to, bits, offset: 0n }];
  return true;
}

function readLea(instruction: Iced.Instruction, draft: Draft): boolean {
  const to = placeOf(instruction, 0);
  const { base, index, displacement } = memoryReference(instruction);
  if (to === null || base === null || index !== null) return false;
  draft.writes = [to];
  draft.copies = [{ from: base, to, bits: bitsOf(instruction, 0), offset: displacement }];
  return true;
}

/** Arithmetic with a constant: the value moves by it, and the flags compare it. */
function readArithmetic(instruction: Iced.Instruction, draft: Draft): boolean {
  const { Mnemonic } = iced().lib;
  const place = placeOf(instruction, 0);
  if (place === null || !isRegister(instruction, 0)) return false;
  const single = instruction.opCount === 1;
  if (!single && (isRegister(instruction, 1) || isMemory(instruction, 1))) return false;
  const constant = single ? 1n : BigInt.asIntN(64, instruction.immediate(1));
  const bits = bitsOf(instruction, 0);
  draft.writes = [place];
  const test = { place, bits, mask: null, condition: null };
  if (instruction.mnemonic === Mnemonic.And) {
    draft.reads = [place];
    draft.resultTest = { ...test, mask: constant, against: 0n };
    return true;
  }
  const subtracts = instruction.mnemonic === Mnemonic.Sub || instruction.mnemonic === Mnemonic.Dec;
  const offset = subtracts ? -constant : constant;
  draft.copies = [{ from: place, to: place, bits, offset }];
  // Adding the least number is the one sum whose overflow flag differs from that of a comparison.
  const least = -(1n << BigInt(bits - 1));
  if (subtracts || BigInt.asIntN(bits, offset) !== least)
    draft.resultTest = { ...test, against: -offset, carryDiffers: !subtracts || single };
  return true;
}

/** Everything else, by what iced-x86 says of registers and memory. */
function readByTable(instruction: Iced.Instruction, draft: Draft): void {
  const { lib, facts, parts } = iced();
  const { OpAccess } = lib;
  const reads: Place[] = [];
  const writes: Place[] = [];
  const add = (place: Place, access: Iced.OpAccess): void => {
    // A conditional write may leave what was there: that counts as a use of it.
    const writesOnly = access === OpAccess.Write;
    if (!writesOnly && access !== OpAccess.NoMemAccess && access !== OpAccess.None) reads.push(place);
    if (access !== OpAccess.Read && access !== OpAccess.CondRead && access !== OpAccess.NoMemAccess) writes.push(place);
  };
  const found = facts.info(instruction);
  for (const used of found.usedRegisters() as Iced.UsedRegister[]) {
    const dwarf = parts[used.register]?.dwarf ?? null;
    if (dwarf !== null) add(dwarf, used.access);
    used.free();
  }
  for (let index = 0; index < instruction.opCount; index += 1) {
    const slot = isMemory(instruction, index) ? slotOf(instruction) : null;
    if (slot !== null) add(slot, found.opAccess(index));
  }
  found.free();
  draft.reads = reads;
  draft.writes = writes;
}
