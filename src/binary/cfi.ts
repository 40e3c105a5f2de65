// SPDX-License-Identifier: Apache-2.0
/**
 * Runs call-frame instructions. Gets an FDE, gives the rows that say how to restore the caller's registers at each pc.
 *
 * Limits: rows of one function, nesting of remember_state, register numbers. Source: DWARF 5, section 6.4.2; GNU
 * extensions (args_size, negative_offset_extended); AADWARF64, section 4.4.7 (negate_ra_state).
 */
import { BinaryError } from "#errors.ts";
import { Cursor } from "./cursor.ts";
import type { Fde, FrameTable } from "./ehFrame.ts";

export type RuleKind = "undefined" | "same" | "offset" | "valueOffset" | "register" | "expression" | "valueExpression";

/** How one register of the caller is found. `operand`: bytes from the CFA, or a register number. */
export type Rule = {
  readonly register: number;
  readonly kind: RuleKind;
  readonly operand: number;
  readonly expression: Uint8Array | null;
};

export type Row = {
  readonly fde: Fde;
  /** Register the CFA is computed from; -1 where `cfaExpression` gives it. */
  readonly cfaRegister: number;
  readonly cfaOffset: number;
  readonly cfaExpression: Uint8Array | null;
  /** Only registers with a rule; the others follow the calling convention. */
  readonly rules: readonly Rule[];
  /** AArch64: the return address carries a pointer authentication code. */
  readonly signed: boolean;
  /** True where the row says that there is no caller: the first function of a thread. */
  readonly isOutermost: boolean;
};

/** Gets the code range of each row and a function that makes the row; false ends the run. */
export type RowVisitor = (start: number, end: number, row: () => Row) => boolean;

/** The largest seen: 6,678 rows from 20,051 bytes of instructions, in cc1 of GCC 12. MariaDB 10.11 has 295 bytes at most. */
const rowsPerFunctionMax = 100_000;
const instructionBytesMax = 262_144;
const rememberedMax = 64;
/** Highest DWARF register number of the two architectures: AArch64 SVE ends at 127, x86-64 at 130. */
const registerMax = 255;
const negateRaState = 0x2d;

/** The row at `offset`, or null where `fde` has none. @throws BinaryError on damaged instructions. */
export function rowAt(table: FrameTable, fde: Fde, offset: number): Row | null {
  let found: Row | null = null;
  visitRows(table, fde, (start, end, row) => {
    if (offset < start) return false;
    if (offset >= end) return true;
    found = row();
    return false;
  });
  return found;
}

/** Visits all rows of a function in order. @throws BinaryError "binary.ehFrame" | "binary.limit". */
export function visitRows(table: FrameTable, fde: Fde, visit: RowVisitor): void {
  new CfiMachine(table, fde).run(visit);
}

type State = {
  cfaRegister: number;
  cfaOffset: number;
  cfaExpression: Uint8Array | null;
  rules: Map<number, Rule>;
  signed: boolean;
};

class CfiMachine {
  #state: State = { cfaRegister: -1, cfaOffset: 0, cfaExpression: null, rules: new Map(), signed: false };
  #initial: Map<number, Rule> | null = null;
  readonly #remembered: State[] = [];
  #location: number;
  #rows = 0;

  constructor(
    private readonly table: FrameTable,
    private readonly fde: Fde,
  ) {
    this.#location = fde.start;
  }

  run(visit: RowVisitor): void {
    const { fde, table } = this;
    const { cie } = fde;
    const lengthBytes = fde.instructions.to - fde.instructions.from + cie.instructions.to - cie.instructions.from;
    if (lengthBytes > instructionBytesMax) {
      throw new BinaryError("binary.limit", "a function has too much call-frame information", { lengthBytes });
    }
    const row = (): Row => this.#row();
    const initial = new Cursor(table.view, cie.instructions.from, cie.instructions.to);
    while (!initial.done) this.#step(initial);
    this.#initial = new Map(this.#state.rules);
    const cursor = new Cursor(table.view, fde.instructions.from, fde.instructions.to);
    while (!cursor.done) {
      // Instructions that move the location change nothing else, so the row that ends here is still in the state.
      const before = this.#location;
      this.#step(cursor);
      if (this.#location === before) continue;
      if (this.#location < before) throw this.#damaged("location moves backwards");
      this.#rows += 1;
      if (this.#rows > rowsPerFunctionMax) {
        throw new BinaryError("binary.limit", "a function has too many rows", { start: fde.start, rowsPerFunctionMax });
      }
      if (!visit(before, this.#location, row)) return;
    }
    if (this.#location < fde.end) visit(this.#location, fde.end, row);
  }

  #row(): Row {
    const { cfaRegister, cfaOffset, cfaExpression, rules, signed } = this.#state;
    const isOutermost = rules.get(this.fde.cie.returnColumn)?.kind === "undefined";
    return { fde: this.fde, cfaRegister, cfaOffset, cfaExpression, rules: [...rules.values()], signed, isOutermost };
  }

  #step(cursor: Cursor): void {
    const opcode = cursor.u8();
    const low = opcode & 0x3f;
    const { codeAlign, dataAlign } = this.fde.cie;
    switch (opcode >> 6) {
      case 1:
        this.#location += low * codeAlign;
        return;
      case 2:
        this.#rule(low, "offset", cursor.uleb() * dataAlign);
        return;
      case 3:
        this.#restore(low);
        return;
      default:
        if (low <= 0x04) this.#advance(low, cursor);
        else if (low >= 0x0a && low <= 0x0f) this.#frameAddress(low, cursor);
        else if (low === 0x12 || low === 0x13) this.#frameAddress(low, cursor);
        else if (low < 0x20) this.#registerRule(low, cursor);
        else this.#extension(low, cursor);
    }
  }

  #advance(opcode: number, cursor: Cursor): void {
    const { codeAlign, pointerEncoding } = this.fde.cie;
    if (opcode === 0x01) this.#location = cursor.pointer(pointerEncoding, this.table.bases);
    else if (opcode === 0x02) this.#location += cursor.u8() * codeAlign;
    else if (opcode === 0x03) this.#location += cursor.u16() * codeAlign;
    else if (opcode === 0x04) this.#location += cursor.u32() * codeAlign;
  }

  #frameAddress(opcode: number, cursor: Cursor): void {
    const state = this.#state;
    switch (opcode) {
      case 0x0a:
        if (this.#remembered.length === rememberedMax) {
          throw new BinaryError("binary.limit", "remember_state is nested too deeply", { rememberedMax });
        }
        this.#remembered.push({ ...state, rules: new Map(state.rules) });
        return;
      case 0x0b: {
        const remembered = this.#remembered.pop();
        if (remembered === undefined) throw this.#damaged("restore_state without remember_state");
        this.#state = remembered;
        return;
      }
      case 0x0c:
        state.cfaRegister = this.#register(cursor.uleb());
        state.cfaOffset = cursor.uleb();
        state.cfaExpression = null;
        return;
      case 0x0d:
        state.cfaRegister = this.#register(cursor.uleb());
        state.cfaExpression = null;
        return;
      case 0x0e:
        state.cfaOffset = cursor.uleb();
        return;
      case 0x0f:
        state.cfaRegister = -1;
        state.cfaExpression = cursor.block(cursor.uleb());
        return;
      case 0x12:
        state.cfaRegister = this.#register(cursor.uleb());
        state.cfaOffset = cursor.sleb() * this.fde.cie.dataAlign;
        state.cfaExpression = null;
        return;
      default:
        state.cfaOffset = cursor.sleb() * this.fde.cie.dataAlign;
    }
  }

  #registerRule(opcode: number, cursor: Cursor): void {
    const register = cursor.uleb();
    const { dataAlign } = this.fde.cie;
    switch (opcode) {
      case 0x05:
        this.#rule(register, "offset", cursor.uleb() * dataAlign);
        return;
      case 0x06:
        this.#restore(register);
        return;
      case 0x07:
        this.#rule(register, "undefined", 0);
        return;
      case 0x08:
        this.#rule(register, "same", 0);
        return;
      case 0x09:
        this.#rule(register, "register", this.#register(cursor.uleb()));
        return;
      case 0x10:
        this.#rule(register, "expression", 0, cursor.block(cursor.uleb()));
        return;
      case 0x11:
        this.#rule(register, "offset", cursor.sleb() * dataAlign);
        return;
      case 0x14:
        this.#rule(register, "valueOffset", cursor.uleb() * dataAlign);
        return;
      case 0x15:
        this.#rule(register, "valueOffset", cursor.sleb() * dataAlign);
        return;
      case 0x16:
        this.#rule(register, "valueExpression", 0, cursor.block(cursor.uleb()));
        return;
      default:
        throw this.#damaged(`call-frame instruction 0x${opcode.toString(16)} is not known`);
    }
  }

  #extension(opcode: number, cursor: Cursor): void {
    if (opcode === negateRaState) this.#state.signed = !this.#state.signed;
    else if (opcode === 0x2e) cursor.uleb();
    else if (opcode === 0x2f) {
      const register = cursor.uleb();
      this.#rule(register, "offset", -cursor.uleb() * this.fde.cie.dataAlign);
    } else throw this.#damaged(`call-frame instruction 0x${opcode.toString(16)} is not known`);
  }

  #rule(register: number, kind: RuleKind, operand: number, expression: Uint8Array | null = null): void {
    this.#state.rules.set(this.#register(register), { register, kind, operand, expression });
  }

  #restore(register: number): void {
    const rule = this.#initial?.get(register);
    if (rule === undefined) this.#state.rules.delete(this.#register(register));
    else this.#state.rules.set(register, rule);
  }

  #register(register: number): number {
    if (register <= registerMax) return register;
    throw this.#damaged(`register number ${register} does not exist`);
  }

  #damaged(what: string): BinaryError {
    return new BinaryError("binary.ehFrame", what, { start: this.fde.start, location: this.#location });
  }
}
