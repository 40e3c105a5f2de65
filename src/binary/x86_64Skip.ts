// SPDX-License-Identifier: Apache-2.0
/**
 * Completes a faulting x86-64 instruction by hand: gets it and the registers, gives the register writes or null.
 *
 * The rule is one: memory reads as zero, writes to memory are lost, a division gives zero. Only instructions whose
 * effect is exact in general registers and flags are completed; control flow, the stack and vector results never.
 * Flags that the processor leaves undefined are left alone. Source: Intel SDM volume 2.
 */
import type { InstructionSkip } from "#fault.ts";
import type { StoppedState } from "./instructionSet.ts";
import {
  type Arithmetic,
  add,
  adjust,
  carry,
  logic,
  overflow,
  parity,
  sign,
  statusFlags,
  subtract,
  zero,
} from "./x86_64Arithmetic.ts";
import { Completion } from "./x86_64Completion.ts";
import { iced } from "./x86_64Decode.ts";
import type * as Iced from "./x86_64Iced.ts";
import { completeString } from "./x86_64String.ts";

type Model = (completion: Completion) => void;

const unknownState: StoppedState = { registers: [], faultAddress: null };

export function skipOf(instruction: Iced.Instruction, state: StoppedState = unknownState): InstructionSkip | null {
  const { lib } = iced();
  if (instruction.flowControl !== lib.FlowControl.Next || instruction.isStackInstruction) return null;
  const completion = new Completion(instruction, state.registers);
  if (instruction.isStringInstruction) return completeString(completion, state.faultAddress);
  const model = models().get(instruction.mnemonic);
  if (model === undefined) return isPureStore(instruction) ? { kind: "drop" } : null;
  if (!touchesMemory(instruction) && !isDivision(instruction)) return null;
  model(completion);
  return completion.skip();
}

function touchesMemory(instruction: Iced.Instruction): boolean {
  const { OpKind } = iced().lib;
  for (let index = 0; index < instruction.opCount; index += 1) {
    const kind = instruction.opKind(index);
    if (kind === OpKind.Memory || kind === OpKind.MemorySegRDI) return true;
  }
  return instruction.mnemonic === iced().lib.Mnemonic.Xlatb;
}

function isDivision(instruction: Iced.Instruction): boolean {
  const { Mnemonic } = iced().lib;
  return instruction.mnemonic === Mnemonic.Div || instruction.mnemonic === Mnemonic.Idiv;
}

/** True where the instruction writes memory and nothing else: no register of any kind, no flag, no x87 stack top. */
function isPureStore(instruction: Iced.Instruction): boolean {
  const { lib, facts } = iced();
  const { OpAccess } = lib;
  if (instruction.rflagsModified !== 0 || instruction.fpuWritesTop || instruction.fpuCondWritesTop) return false;
  const found = facts.info(instruction);
  let pure = true;
  for (const used of found.usedRegisters() as Iced.UsedRegister[]) {
    pure &&= used.access === OpAccess.Read || used.access === OpAccess.CondRead;
    used.free();
  }
  let stores = 0;
  for (const used of found.usedMemory() as Iced.UsedMemory[]) {
    if (used.access === OpAccess.Write || used.access === OpAccess.CondWrite) stores += 1;
    else pure = false;
    used.free();
  }
  found.free();
  return pure && stores > 0;
}

let table: ReadonlyMap<Iced.Mnemonic, Model> | undefined;

function models(): ReadonlyMap<Iced.Mnemonic, Model> {
  table ??= new Map([...moves(), ...arithmetic(), ...shifts(), ...bits(), ...exchanges(), ...conditionals()]);
  return table;
}

/** Loads, and operations whose result is zero where one operand is. */
function moves(): [Iced.Mnemonic, Model][] {
  const { Mnemonic: M } = iced().lib;
  const load: Model = (x) => x.assign(0, 0n);
  const loads = [M.Mov, M.Movzx, M.Movsx, M.Movsxd, M.Movbe, M.Shlx, M.Shrx, M.Sarx, M.Rorx, M.Pdep, M.Pext];
  const conversions = [M.Cvttsd2si, M.Cvtsd2si, M.Cvttss2si, M.Cvtss2si, M.Vcvttsd2si, M.Vcvtsd2si, M.Vcvttss2si];
  return [
    ...[...loads, ...conversions, M.Vcvtss2si].map((mnemonic): [Iced.Mnemonic, Model] => [mnemonic, load]),
    [M.Xlatb, (x) => x.write(iced().parts[iced().lib.Register.AL], 0n)],
    [
      M.Mulx,
      (x) => {
        x.assign(0, 0n);
        x.assign(1, 0n);
      },
    ],
  ];
}

function arithmetic(): [Iced.Mnemonic, Model][] {
  const { Mnemonic: M } = iced().lib;
  const two =
    (compute: (left: bigint, right: bigint, bits: number, carryIn: bigint) => Arithmetic, keep: boolean): Model =>
    (x) => {
      const carryIn = x.instruction.rflagsRead !== 0 && x.flag(carry) ? 1n : 0n;
      const { result, flags } = compute(x.value(0), x.value(1), x.bits(0), carryIn);
      if (keep) x.assign(0, result);
      x.setFlags(statusFlags, flags);
    };
  const one =
    (compute: (value: bigint, bits: number) => Arithmetic, mask: bigint): Model =>
    (x) =>
      x.setFlags(mask, compute(x.value(0), x.bits(0)).flags);
  return [
    [M.Add, two(add, true)],
    [M.Adc, two(add, true)],
    [M.Sub, two(subtract, true)],
    [M.Sbb, two(subtract, true)],
    [M.Cmp, two(subtract, false)],
    [M.And, two((left, right, width) => logic(left & right, width), true)],
    [M.Or, two((left, right, width) => logic(left | right, width), true)],
    [M.Xor, two((left, right, width) => logic(left ^ right, width), true)],
    [M.Test, two((left, right, width) => logic(left & right, width), false)],
    [M.Inc, one((value, width) => add(value, 1n, width), statusFlags & ~carry)],
    [M.Dec, one((value, width) => subtract(value, 1n, width), statusFlags & ~carry)],
    [M.Neg, one((value, width) => subtract(0n, value, width), statusFlags)],
    [M.Not, () => {}],
    [M.Imul, multiply],
    [M.Mul, multiply],
    [M.Div, (x) => wideResult(x)],
    [M.Idiv, (x) => wideResult(x)],
  ];
}

/** A product with zero. Sign, zero, parity and adjust are undefined. */
function multiply(completion: Completion): void {
  if (completion.instruction.opCount === 1) wideResult(completion);
  else completion.assign(0, 0n);
  completion.setFlags(carry | overflow, 0n);
}

/** Zero to rdx:rax in the width of the operand: a product, or quotient and remainder. */
function wideResult(completion: Completion): void {
  const { parts, lib } = iced();
  const { Register } = lib;
  const pairs: Record<number, readonly number[]> = {
    8: [Register.AX],
    16: [Register.AX, Register.DX],
    32: [Register.EAX, Register.EDX],
    64: [Register.RAX, Register.RDX],
  };
  for (const register of pairs[completion.bits(0)] ?? []) completion.write(parts[register], 0n);
}

/** Shifts and rotates of memory: zero stays zero. A count of zero leaves the flags alone. */
function shifts(): [Iced.Mnemonic, Model][] {
  const { Mnemonic: M } = iced().lib;
  const shift =
    (mask: bigint, flags: bigint): Model =>
    (x) => {
      const count = x.value(1) & (x.bits(0) === 64 ? 63n : 31n);
      if (count !== 0n) x.setFlags(mask, flags);
    };
  const shifted = shift(statusFlags & ~adjust, logic(0n, 64).flags);
  const rotated = shift(carry | overflow, 0n);
  return [
    [M.Shl, shifted],
    [M.Sal, shifted],
    [M.Shr, shifted],
    [M.Sar, shifted],
    [M.Rol, rotated],
    [M.Ror, rotated],
  ];
}

function bits(): [Iced.Mnemonic, Model][] {
  const { Mnemonic: M } = iced().lib;
  const testBit: Model = (x) => x.setFlags(carry, 0n);
  const count: Model = (x) => {
    x.assign(0, BigInt(x.bits(0)));
    x.setFlags(carry | zero, carry);
  };
  return [
    [M.Bt, testBit],
    [M.Bts, testBit],
    [M.Btr, testBit],
    [M.Btc, testBit],
    [M.Tzcnt, count],
    [M.Lzcnt, count],
    [
      M.Popcnt,
      (x) => {
        x.assign(0, 0n);
        x.setFlags(statusFlags, zero);
      },
    ],
    [
      M.Andn,
      (x) => {
        x.assign(0, 0n);
        x.setFlags(carry | zero | sign | overflow, zero);
      },
    ],
  ];
}

/** The old value of memory was zero; the new one is lost. */
function exchanges(): [Iced.Mnemonic, Model][] {
  const { Mnemonic: M } = iced().lib;
  return [
    [
      M.Xchg,
      (x) => {
        x.assign(0, 0n);
        x.assign(1, 0n);
      },
    ],
    [
      M.Xadd,
      (x) => {
        const { flags } = add(0n, x.value(1), x.bits(0));
        x.assign(1, 0n);
        x.setFlags(statusFlags, flags);
      },
    ],
    [M.Cmpxchg, compareExchange],
    [M.Cmpxchg8b, (x) => compareExchangePair(x, iced().lib.Register.EAX, iced().lib.Register.EDX)],
    [M.Cmpxchg16b, (x) => compareExchangePair(x, iced().lib.Register.RAX, iced().lib.Register.RDX)],
  ];
}

function compareExchange(completion: Completion): void {
  const { parts, lib } = iced();
  const { Register } = lib;
  const width = completion.bits(0);
  const names: Record<number, number> = { 8: Register.AL, 16: Register.AX, 32: Register.EAX, 64: Register.RAX };
  const accumulator = parts[names[width] ?? Register.None];
  const { result, flags } = subtract(completion.read(accumulator), 0n, width);
  if (result !== 0n) completion.write(accumulator, 0n);
  completion.setFlags(statusFlags, flags);
}

function compareExchangePair(completion: Completion, low: Iced.Register, high: Iced.Register): void {
  const { parts } = iced();
  const equal = completion.read(parts[low]) === 0n && completion.read(parts[high]) === 0n;
  if (!equal) {
    completion.write(parts[low], 0n);
    completion.write(parts[high], 0n);
  }
  completion.setFlags(zero, equal ? zero : 0n);
}

/** CMOVcc with its condition: a false one still clears the upper half of a 32-bit register. SETcc only stores. */
function conditionals(): [Iced.Mnemonic, Model][] {
  const { Mnemonic: M } = iced().lib;
  const either = (one: (x: Completion) => boolean, negate: boolean): Model => {
    return (x) => x.assign(0, one(x) === negate ? x.value(0) : 0n);
  };
  const signed = (x: Completion): boolean => x.flag(sign) !== x.flag(overflow);
  const conditions: [Iced.Mnemonic, Iced.Mnemonic, (x: Completion) => boolean][] = [
    [M.Cmove, M.Cmovne, (x) => x.flag(zero)],
    [M.Cmovb, M.Cmovae, (x) => x.flag(carry)],
    [M.Cmovbe, M.Cmova, (x) => x.flag(carry | zero)],
    [M.Cmovl, M.Cmovge, signed],
    [M.Cmovle, M.Cmovg, (x) => x.flag(zero) || signed(x)],
    [M.Cmovs, M.Cmovns, (x) => x.flag(sign)],
    [M.Cmovo, M.Cmovno, (x) => x.flag(overflow)],
    [M.Cmovp, M.Cmovnp, (x) => x.flag(parity)],
  ];
  return conditions.flatMap(([yes, no, holds]): [Iced.Mnemonic, Model][] => [
    [yes, either(holds, false)],
    [no, either(holds, true)],
  ]);
}
