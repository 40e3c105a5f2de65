// SPDX-License-Identifier: Apache-2.0
/**
 * Evaluates the DWARF expressions that call-frame information uses. Gets registers and a word reader; gives 64 bits, or
 * null where a register or a word it needs is not known.
 *
 * Limits: steps, stack depth. Operations that call-frame information may not hold (DWARF 5, section 6.4.2) are refused.
 * Source: DWARF 5, section 2.5.
 */
import { BinaryError } from "#errors.ts";
import type { Registers } from "#fault.ts";
import { Cursor } from "./cursor.ts";

export type ExpressionContext = {
  readonly registers: Registers;
  /** Little-endian value of 1, 2, 4 or 8 bytes at an address; null where nothing is mapped. */
  readonly readValue: (from: bigint, lengthBytes: number) => bigint | null;
  /** Added to DW_OP_addr: the module's load bias. */
  readonly bias: bigint;
};

const stepsMax = 1_000;
const stackMax = 64;
const wordBytes = 8;

/** Thrown inside and caught in `evaluate`: something the expression needs is not known. */
class Unknown extends BinaryError {}

/** @throws BinaryError "binary.expression" where the expression is not valid, "binary.limit" where it runs too long. */
export function evaluate(code: Uint8Array, initial: bigint | null, context: ExpressionContext): bigint | null {
  try {
    return new ExpressionMachine(code, context, initial).run();
  } catch (error) {
    if (error instanceof Unknown) return null;
    throw error;
  }
}

class ExpressionMachine {
  readonly #stack: bigint[] = [];
  readonly #cursor: Cursor;

  constructor(
    code: Uint8Array,
    private readonly context: ExpressionContext,
    initial: bigint | null,
  ) {
    this.#cursor = new Cursor(new DataView(code.buffer, code.byteOffset, code.length), 0, code.length);
    if (initial !== null) this.#stack.push(initial);
  }

  run(): bigint {
    const cursor = this.#cursor;
    for (let steps = 0; !cursor.done; steps += 1) {
      if (steps === stepsMax) throw new BinaryError("binary.limit", "expression runs too long", { stepsMax });
      this.#step(cursor.u8());
    }
    return this.#pop();
  }

  #step(opcode: number): void {
    if (opcode >= 0x30 && opcode <= 0x4f) this.#push(BigInt(opcode - 0x30));
    else if (opcode >= 0x70 && opcode <= 0x8f) this.#pushRegister(opcode - 0x70);
    else if (opcode === 0x92) this.#pushRegister(this.#cursor.uleb());
    else if (opcode === 0x06) this.#dereference(wordBytes);
    else if (opcode <= 0x11) this.#push(this.#constant(opcode));
    else if (opcode <= 0x17) this.#shuffle(opcode);
    else if (opcode === 0x28 || opcode === 0x2f) this.#branch(opcode);
    else if (opcode <= 0x2e) this.#arithmetic(opcode);
    else if (opcode === 0x94) this.#dereference(this.#cursor.u8());
    else if (opcode !== 0x96) throw refused(opcode);
  }

  #constant(opcode: number): bigint {
    const cursor = this.#cursor;
    switch (opcode) {
      case 0x03:
        return cursor.u64() + this.context.bias;
      case 0x08:
        return BigInt(cursor.u8());
      case 0x09:
        return BigInt(cursor.i8());
      case 0x0a:
        return BigInt(cursor.u16());
      case 0x0b:
        return BigInt(cursor.i16());
      case 0x0c:
        return BigInt(cursor.u32());
      case 0x0d:
        return BigInt(cursor.i32());
      case 0x0e:
        return cursor.u64();
      case 0x0f:
        return cursor.i64();
      case 0x10:
        return cursor.uleb64();
      case 0x11:
        return cursor.sleb64();
      default:
        throw refused(opcode);
    }
  }

  #shuffle(opcode: number): void {
    switch (opcode) {
      case 0x12:
        this.#push(this.#peek(0));
        return;
      case 0x13:
        this.#pop();
        return;
      case 0x14:
        this.#push(this.#peek(1));
        return;
      case 0x15:
        this.#push(this.#peek(this.#cursor.u8()));
        return;
      case 0x16: {
        const [top, second] = [this.#pop(), this.#pop()];
        this.#push(top);
        this.#push(second);
        return;
      }
      default: {
        const [top, second, third] = [this.#pop(), this.#pop(), this.#pop()];
        this.#push(top);
        this.#push(third);
        this.#push(second);
        return;
      }
    }
  }

  #branch(opcode: number): void {
    const cursor = this.#cursor;
    const distance = cursor.i16();
    if (opcode === 0x28 && this.#pop() === 0n) return;
    const target = cursor.position + distance;
    if (target < 0 || target > cursor.end) throw new BinaryError("binary.expression", "branch leaves the expression");
    cursor.position = target;
  }

  #arithmetic(opcode: number): void {
    const top = this.#pop();
    if (opcode === 0x19) {
      this.#push(signed(top) < 0n ? -top : top);
      return;
    }
    if (opcode === 0x1f) {
      this.#push(-top);
      return;
    }
    if (opcode === 0x20) {
      this.#push(~top);
      return;
    }
    if (opcode === 0x23) {
      this.#push(top + this.#cursor.uleb64());
      return;
    }
    this.#push(binary(opcode, this.#pop(), top));
  }

  #dereference(lengthBytes: number): void {
    if (lengthBytes !== 1 && lengthBytes !== 2 && lengthBytes !== 4 && lengthBytes !== 8) {
      throw new BinaryError("binary.expression", `reads ${lengthBytes} bytes`);
    }
    const value = this.context.readValue(this.#pop(), lengthBytes);
    if (value === null) throw new Unknown("binary.expression", "memory is not mapped");
    this.#push(value);
  }

  #pushRegister(register: number): void {
    const value = this.context.registers[register] ?? null;
    const offset = this.#cursor.sleb64();
    if (value === null) throw new Unknown("binary.expression", "register is not known", { register });
    this.#push(value + offset);
  }

  #push(value: bigint): void {
    if (this.#stack.length === stackMax)
      throw new BinaryError("binary.limit", "expression stack is full", { stackMax });
    this.#stack.push(BigInt.asUintN(64, value));
  }

  #pop(): bigint {
    const value = this.#stack.pop();
    if (value === undefined) throw new BinaryError("binary.expression", "expression stack is empty");
    return value;
  }

  #peek(depth: number): bigint {
    const value = this.#stack[this.#stack.length - 1 - depth];
    if (value === undefined) throw new BinaryError("binary.expression", "expression stack is too short", { depth });
    return value;
  }
}

const signed = (value: bigint): bigint => BigInt.asIntN(64, value);
const truth = (value: boolean): bigint => (value ? 1n : 0n);

function binary(opcode: number, left: bigint, right: bigint): bigint {
  switch (opcode) {
    case 0x1a:
      return left & right;
    case 0x1b:
      return signed(left) / nonZero(signed(right));
    case 0x1c:
      return left - right;
    case 0x1d:
      return left % nonZero(right);
    case 0x1e:
      return left * right;
    case 0x21:
      return left | right;
    case 0x22:
      return left + right;
    case 0x24:
      return right >= 64n ? 0n : left << right;
    case 0x25:
      return right >= 64n ? 0n : left >> right;
    case 0x26:
      return signed(left) >> (right >= 64n ? 63n : right);
    case 0x27:
      return left ^ right;
    case 0x29:
      return truth(left === right);
    case 0x2a:
      return truth(signed(left) >= signed(right));
    case 0x2b:
      return truth(signed(left) > signed(right));
    case 0x2c:
      return truth(signed(left) <= signed(right));
    case 0x2d:
      return truth(signed(left) < signed(right));
    case 0x2e:
      return truth(left !== right);
    default:
      throw refused(opcode);
  }
}

function nonZero(divisor: bigint): bigint {
  if (divisor === 0n) throw new BinaryError("binary.expression", "division by zero");
  return divisor;
}

const refused = (opcode: number): BinaryError =>
  new BinaryError("binary.expression", `operation 0x${opcode.toString(16)} is not allowed in call-frame information`);
