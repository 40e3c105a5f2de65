// SPDX-License-Identifier: Apache-2.0
/**
 * The frame of an x86-64 function by its code alone, where there is no call-frame information.
 *
 * Two ways, both exact for what compilers make. Backwards in time: from the start of the function to pc, what was pushed
 * where. Forwards: from pc along the code to its return, which puts everything back. Gets code and what is known of the
 * registers; gives where the return address is and what the caller's registers are. Calls are taken to leave the stack as
 * they found it. Limit: instructions. Source: Intel SDM volume 1, 6.2; System V ABI AMD64 supplement 1.0, 3.2.
 */
import type { Registers } from "#fault.ts";
import { callingConvention } from "./callingConvention.ts";
import { decodeAt, iced } from "./x86_64Decode.ts";
import type { Instruction } from "./x86_64Iced.ts";

const instructionsMax = 4_000;
const { sp, framePointer, calleeSaved } = callingConvention.x86_64;
const slotBytes = 8n;

export type FrameByCode = {
  /** Where the return address is. */
  readonly returnSlot: bigint;
  /** The callee-saved registers of the caller, by DWARF number; null where not known. */
  readonly restored: ReadonlyMap<number, bigint | null>;
};

/** Code of the file from `at` on: a few bytes are enough, an empty answer ends a path. */
export type ReadCode = (at: bigint) => Uint8Array;
export type ReadWord = (at: bigint) => bigint | null;

/** A number that is known (`from` null), or a distance from the stack pointer at the start of the function. */
type Place = { readonly from: "entry" | null; readonly value: bigint };

type State = {
  readonly registers: readonly (Place | null)[];
  /** Slots that hold callee-saved registers as they were at the start of the function. */
  readonly saved: ReadonlyMap<number, Place>;
  /** Registers written since: what is stored of them is no caller's value. */
  readonly changed: ReadonlySet<number>;
};

/** From the start of the function, at which nothing is known, to `pc`; null where no path leads there. */
export function frameFromStart(
  start: bigint,
  pc: bigint,
  registers: Registers,
  code: ReadCode,
  word: ReadWord,
): FrameByCode | null {
  const stack = registers[sp] ?? null;
  if (stack === null) return null;
  const entry: (Place | null)[] = new Array(registers.length).fill(null);
  entry[sp] = { from: "entry", value: 0n };
  const found = walk(
    start,
    stateOf(entry),
    code,
    () => null,
    (at) => at === pc,
  );
  if (found === null) return null;
  const anchor = entryStack(found, registers);
  if (anchor === null) return null;
  const restored = new Map<number, bigint | null>();
  for (const register of calleeSaved) {
    const slot = found.saved.get(register);
    const own = found.changed.has(register) ? null : (registers[register] ?? null);
    restored.set(register, slot === undefined ? own : word(anchor + slot.value));
  }
  return { returnSlot: anchor, restored };
}

/** The stack pointer at the start of the function: by rsp, or by rbp where rsp was aligned on the way. */
function entryStack(state: State, registers: Registers): bigint | null {
  for (const register of [sp, framePointer]) {
    const place = state.registers[register];
    const value = registers[register];
    if (place?.from === "entry" && value != null) return value - place.value;
  }
  return null;
}

/** From `pc` to a return on the shortest path; null where none is found. */
export function frameToReturn(pc: bigint, registers: Registers, code: ReadCode, word: ReadWord): FrameByCode | null {
  const known = registers.map((value): Place | null => (value === null ? null : { from: null, value }));
  if (known[sp] === null) return null;
  const found = walk(pc, stateOf(known), code, word, (_, instruction) => instruction !== null && isLeft(instruction));
  const stack = found?.registers[sp];
  if (found === null || stack == null) return null;
  return {
    returnSlot: stack.value,
    restored: new Map(calleeSaved.map((register) => [register, found.registers[register]?.value ?? null])),
  };
}

const stateOf = (registers: readonly (Place | null)[]): State => ({ registers, saved: new Map(), changed: new Set() });

/** A return, or a jump into another file in place of a call and a return. */
function isLeft(instruction: Instruction): boolean {
  const { FlowControl, Register } = iced().lib;
  if (instruction.flowControl === FlowControl.Return) return true;
  return instruction.flowControl === FlowControl.IndirectBranch && instruction.memoryBase === Register.RIP;
}

/** Breadth first, each address once. Gives the state before the instruction at which `isEnd`. */
function walk(
  from: bigint,
  first: State,
  code: ReadCode,
  word: ReadWord,
  isEnd: (at: bigint, instruction: Instruction | null) => boolean,
): State | null {
  const seen = new Set<bigint>([from]);
  const open: { at: bigint; state: State }[] = [{ at: from, state: first }];
  for (let index = 0; index < open.length && index < instructionsMax; index += 1) {
    const { at, state } = open[index]!;
    const instruction = decodeAt(code(at), at);
    if (isEnd(at, instruction)) return state;
    if (instruction === null) continue;
    const successors = successorsOf(instruction);
    if (successors.length === 0) continue;
    const next = step(state, instruction, word);
    for (const target of successors) {
      if (seen.has(target)) continue;
      seen.add(target);
      open.push({ at: target, state: next });
    }
  }
  return null;
}

function successorsOf(instruction: Instruction): readonly bigint[] {
  const { FlowControl } = iced().lib;
  switch (instruction.flowControl) {
    case FlowControl.Next:
    case FlowControl.Call:
    case FlowControl.IndirectCall:
      return [instruction.nextIP];
    case FlowControl.ConditionalBranch:
      return [instruction.nextIP, instruction.nearBranchTarget];
    case FlowControl.UnconditionalBranch:
      return [instruction.nearBranchTarget];
    default:
      return [];
  }
}

/** The state after one instruction. What is not understood of a register makes it unknown. */
function step(state: State, instruction: Instruction, word: ReadWord): State {
  const { Mnemonic, FlowControl, Register } = iced().lib;
  const { flowControl, mnemonic } = instruction;
  if (flowControl === FlowControl.Call || flowControl === FlowControl.IndirectCall) return state;
  const registers = [...state.registers];
  const stack = registers[sp] ?? null;
  const written = writtenRegisters(instruction);
  const load = (place: Place | null): Place | null => {
    const value = place === null || place.from !== null ? null : word(place.value);
    return value === null ? null : { from: null, value };
  };
  const { op0Register } = instruction;
  const target = dwarfOf(op0Register);
  let saved = state.saved;
  let result: Place | null = null;
  if (mnemonic === Mnemonic.Push) {
    if (target !== null && stack?.from === "entry")
      saved = withSaved(state, target, { ...stack, value: stack.value - slotBytes });
  } else if (mnemonic === Mnemonic.Pop) {
    result = load(stack);
  } else if (mnemonic === Mnemonic.Mov) {
    if (target !== null) result = moved(registers, instruction, load);
    else saved = stored(state, instruction);
  } else if (mnemonic === Mnemonic.Lea) {
    result = addressed(registers, instruction);
  } else if ((mnemonic === Mnemonic.Add || mnemonic === Mnemonic.Sub) && isImmediate(instruction)) {
    const by = BigInt.asIntN(64, instruction.immediate(1));
    if (target !== null) result = shifted(registers[target] ?? null, mnemonic === Mnemonic.Add ? by : -by);
  }
  for (const register of written) if (register !== sp) registers[register] = null;
  const changed = written.every((register) => state.changed.has(register))
    ? state.changed
    : new Set([...state.changed, ...written]);
  if (mnemonic === Mnemonic.Leave) {
    const frame = state.registers[framePointer] ?? null;
    registers[framePointer] = load(frame);
    registers[sp] = shifted(frame, slotBytes);
    return { registers, saved, changed };
  }
  if (instruction.isStackInstruction) registers[sp] = shifted(stack, BigInt(instruction.stackPointerIncrement));
  else if (written.includes(sp)) registers[sp] = null;
  if (target !== null && written.includes(target) && op0Register !== Register.None) {
    registers[target] = isWhole(op0Register) ? result : null;
  }
  return { registers, saved, changed };
}

function withSaved(state: State, register: number, slot: Place): ReadonlyMap<number, Place> {
  if (!calleeSaved.includes(register) || state.saved.has(register) || state.changed.has(register)) return state.saved;
  return new Map(state.saved).set(register, slot);
}

/** `mov %rbx, 8(%rsp)`: another way to save a register. */
function stored(state: State, instruction: Instruction): ReadonlyMap<number, Place> {
  const register = dwarfOf(instruction.op1Register);
  const slot = addressed(state.registers, instruction);
  const isSave = register !== null && isWhole(instruction.op1Register) && slot?.from === "entry" && slot.value < 0n;
  return isSave ? withSaved(state, register, slot) : state.saved;
}

function moved(
  registers: readonly (Place | null)[],
  instruction: Instruction,
  load: (place: Place | null) => Place | null,
): Place | null {
  const { OpKind } = iced().lib;
  if (instruction.op1Kind === OpKind.Memory) return load(addressed(registers, instruction));
  const source = instruction.op1Kind === OpKind.Register ? dwarfOf(instruction.op1Register) : null;
  return source === null ? null : (registers[source] ?? null);
}

/** The address that a memory operand of one register and a displacement means. */
function addressed(registers: readonly (Place | null)[], instruction: Instruction): Place | null {
  const { Register } = iced().lib;
  const base = dwarfOf(instruction.memoryBase);
  if (base === null || instruction.memoryIndex !== Register.None || instruction.segmentPrefix !== Register.None)
    return null;
  return shifted(registers[base] ?? null, BigInt.asIntN(64, instruction.memoryDisplacement));
}

const shifted = (place: Place | null, by: bigint): Place | null =>
  place === null ? null : { ...place, value: place.value + by };

function isImmediate(instruction: Instruction): boolean {
  const { OpKind } = iced().lib;
  const kind = instruction.op1Kind;
  return kind === OpKind.Immediate8to64 || kind === OpKind.Immediate32to64;
}

const dwarfOf = (register: number): number | null => iced().parts[register]?.dwarf ?? null;
const isWhole = (register: number): boolean => iced().parts[register]?.bits === 64;

/** DWARF numbers of the general registers that an instruction writes, in whole or in part. */
function writtenRegisters(instruction: Instruction): readonly number[] {
  const { lib, facts } = iced();
  const found: number[] = [];
  const used = facts.info(instruction);
  for (const item of used.usedRegisters()) {
    const isWrite =
      item.access !== lib.OpAccess.Read && item.access !== lib.OpAccess.CondRead && item.access !== lib.OpAccess.None;
    const register = isWrite ? dwarfOf(item.register) : null;
    if (register !== null) found.push(register);
    item.free();
  }
  used.free();
  return found;
}
