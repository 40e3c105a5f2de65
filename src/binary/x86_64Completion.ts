// SPDX-License-Identifier: Apache-2.0
/**
 * The registers of one x86-64 instruction while it is completed by hand: operands in, register writes out.
 *
 * Memory operands read as zero and writes to them are lost. A register that is needed and not known makes the whole
 * completion void, never half done.
 */
import type { InstructionSkip, Registers } from "#fault.ts";
import { flagsDwarf, iced, type RegisterPart } from "./x86_64Decode.ts";
import type * as Iced from "./x86_64Iced.ts";

const stackPointerDwarf = 7;

export class Completion {
  readonly #writes = new Map<number, bigint>();
  #void = false;

  constructor(
    readonly instruction: Iced.Instruction,
    private readonly registers: Registers,
  ) {}

  /** Width of operand `index`, bits. */
  bits(index: number): number {
    const { lib, parts } = iced();
    const { instruction } = this;
    if (instruction.opKind(index) === lib.OpKind.Register) return parts[instruction.opRegister(index)]?.bits ?? 64;
    return lib.MemorySizeExt.size(instruction.memorySize) * 8;
  }

  /** Value of operand `index`: a register, a constant, or zero for memory. */
  value(index: number): bigint {
    const { lib, parts } = iced();
    const kind = this.instruction.opKind(index);
    if (kind === lib.OpKind.Register) return this.read(parts[this.instruction.opRegister(index)]);
    const constant = kind >= lib.OpKind.Immediate8 && kind <= lib.OpKind.Immediate32to64;
    return constant ? this.instruction.immediate(index) : 0n;
  }

  /** Writes operand `index`; a write to memory is lost. */
  assign(index: number, value: bigint): void {
    const { lib, parts } = iced();
    if (this.instruction.opKind(index) !== lib.OpKind.Register) return;
    this.write(parts[this.instruction.opRegister(index)], value);
  }

  read(part: RegisterPart | undefined): bigint {
    if (part === undefined || part.dwarf === null) return this.#fail();
    return BigInt.asUintN(part.bits, this.full(part.dwarf) >> BigInt(part.shift));
  }

  /** A whole register by DWARF number, as it is so far. */
  full(dwarf: number): bigint {
    return this.#writes.get(dwarf) ?? this.registers[dwarf] ?? this.#fail();
  }

  /** Writes as the processor does: 32 bits clear the upper half, 8 and 16 leave the rest. */
  write(part: RegisterPart | undefined, value: bigint): void {
    if (part === undefined || part.dwarf === null || part.dwarf === stackPointerDwarf) {
      this.#fail();
      return;
    }
    const cut = BigInt.asUintN(part.bits, value);
    if (part.bits >= 32) {
      this.#writes.set(part.dwarf, cut);
      return;
    }
    const hole = ((1n << BigInt(part.bits)) - 1n) << BigInt(part.shift);
    this.#writes.set(part.dwarf, (this.full(part.dwarf) & ~hole) | (cut << BigInt(part.shift)));
  }

  flag(mask: bigint): boolean {
    return (this.full(flagsDwarf) & mask) !== 0n;
  }

  setFlags(mask: bigint, flags: bigint): void {
    this.#writes.set(flagsDwarf, (this.full(flagsDwarf) & ~mask) | (flags & mask));
  }

  /** The result, mildest form first. */
  skip(): InstructionSkip | null {
    if (this.#void) return null;
    if (this.#writes.size === 0) return { kind: "drop" };
    const writes = [...this.#writes];
    if (writes.every(([register, value]) => value === 0n && register !== flagsDwarf)) {
      return { kind: "zero", registers: writes.map(([register]) => register) };
    }
    return { kind: "set", writes };
  }

  #fail(): bigint {
    this.#void = true;
    return 0n;
  }
}
