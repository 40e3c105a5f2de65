// SPDX-License-Identifier: Apache-2.0
/**
 * What we use of iced-x86, straight from its WebAssembly: gets nothing, gives its classes. The package's own JavaScript is
 * 924 KB of source and tables for what is never asked here, some 8 MiB of a process that runs for years.
 *
 * Names and meanings are the package's (iced_x86.d.ts, 1.21.0), and so are calls, by the convention of wasm-bindgen: objects
 * live in its memory until freed, and what does not fit a word comes by the stack. Some exports serve several names, since the
 * linker merged equal code. Numbers of the enumerations are in x86_64Iced.gen.ts. Tests compare both with the package.
 */
import { readFileSync } from "node:fs";
import { BinaryError } from "#errors.ts";

export type ConditionCode = number;
export type FlowControl = number;
export type MemorySize = number;
export type Mnemonic = number;
export type OpAccess = number;
export type OpKind = number;
export type Register = number;

type Call = (...words: (number | bigint)[]) => number;
type Exports = { readonly memory: WebAssembly.Memory } & Readonly<Record<string, Call>>;

/** Room for what a call gives back by the stack. */
const resultBytes = 16;
/** Its side takes smaller numbers of objects for constants, and never gives them back. */
const firstObject = 132;

class Wasm {
  readonly call: Exports;
  readonly #objects: unknown[] = new Array(firstObject);
  readonly #free: number[] = [];
  #bytes = new Uint8Array();
  #view: DataView = new DataView(new ArrayBuffer(0));

  constructor() {
    const imports: Record<string, (...words: number[]) => number | undefined> = {
      __wbindgen_object_drop_ref: (index) => void this.take(index!),
      __wbg_new_3a66822ed076951c: (at, lengthBytes) => this.#give(this.text(at!, lengthBytes!)),
      __wbg_new_34c624469fb1d4fd: () => this.#give([]),
      __wbg_push_906164999551d793: (list, item) => (this.#objects[list!] as unknown[]).push(this.#objects[item!]),
      __wbg_usedregister_new: (at) => this.#give(new UsedRegister(at!)),
      __wbg_usedmemory_new: (at) => this.#give(new UsedMemory(at!)),
      __wbg_instruction_new: () => refuse("it made an instruction that nobody asked for"),
      __wbindgen_throw: (at, lengthBytes) => refuse(this.text(at!, lengthBytes!)),
    };
    const module = new WebAssembly.Module(readFileSync(require.resolve("iced-x86/iced_x86_bg.wasm")));
    const instance = new WebAssembly.Instance(module, { __wbindgen_placeholder__: imports });
    this.call = instance.exports as Exports;
  }

  get bytes(): Uint8Array {
    // Its memory is another one after it has grown.
    if (this.#bytes.byteLength === 0) this.#bytes = new Uint8Array(this.call.memory.buffer);
    return this.#bytes;
  }

  get view(): DataView {
    if (this.#view.buffer !== this.bytes.buffer) this.#view = new DataView(this.bytes.buffer);
    return this.#view;
  }

  text(at: number, lengthBytes: number): string {
    return Buffer.from(this.bytes.buffer, at >>> 0, lengthBytes).toString("utf8");
  }

  /** Places bytes in its memory, for a call that frees them. */
  place(bytes: Uint8Array): number {
    const at = this.call.__wbindgen_malloc!(bytes.length, 1) >>> 0;
    this.bytes.set(bytes, at);
    return at;
  }

  /** A call that gives a result by the stack: its words, of 32 bits, `errorAt` the one that says it failed. */
  result<T>(errorAt: number, run: (at: number) => void, read: (view: DataView, at: number) => T): T {
    const at = this.call.__wbindgen_add_to_stack_pointer!(-resultBytes);
    try {
      run(at);
      const { view } = this;
      if (errorAt > 0 && view.getInt32(at + errorAt * 4, true) !== 0) {
        refuse(String(this.take(view.getInt32(at + errorAt * 4 - 4, true))));
      }
      return read(view, at);
    } finally {
      this.call.__wbindgen_add_to_stack_pointer!(resultBytes);
    }
  }

  take(index: number): unknown {
    const taken = this.#objects[index];
    this.#objects[index] = undefined;
    this.#free.push(index);
    return taken;
  }

  #give(object: unknown): number {
    const index = this.#free.pop() ?? this.#objects.length;
    this.#objects[index] = object;
    return index;
  }
}

function refuse(what: string): never {
  throw new BinaryError("binary.limit", `the decoder of instructions refused: ${what}`);
}

let loaded: Wasm | undefined;
function wasm(): Wasm {
  loaded ??= new Wasm();
  return loaded;
}

const word = (view: DataView, at: number): number => view.getInt32(at, true);

/** An object in its memory. */
class Owned {
  constructor(readonly at: number) {}
}

export class Decoder extends Owned {
  constructor(bitness: number, bytes: Uint8Array, options: number) {
    const { call } = wasm();
    const placed = wasm().place(bytes);
    super(wasm().result(2, (at) => call.decoder_new!(at, bitness, placed, bytes.length, options), word) >>> 0);
  }
  set ip(value: bigint) {
    wasm().call.decoder_set_ip!(this.at, value);
  }
  get canDecode(): boolean {
    return wasm().call.decoder_canDecode!(this.at) !== 0;
  }
  decodeOut(instruction: Instruction): void {
    wasm().call.decoder_decodeOut!(this.at, instruction.at);
  }
  free(): void {
    wasm().call.__wbg_decoder_free!(this.at);
  }
}

export class Instruction extends Owned {
  constructor() {
    super(wasm().call.instruction_new!() >>> 0);
  }
  get conditionCode(): ConditionCode {
    return wasm().call.instruction_conditionCode!(this.at);
  }
  get flowControl(): FlowControl {
    return wasm().call.instruction_flowControl!(this.at);
  }
  get fpuCondWritesTop(): boolean {
    return wasm().call.instruction_fpuCondWritesTop!(this.at) !== 0;
  }
  get fpuWritesTop(): boolean {
    return wasm().call.instruction_fpuWritesTop!(this.at) !== 0;
  }
  get hasRepePrefix(): boolean {
    return wasm().call.instruction_hasRepPrefix!(this.at) !== 0;
  }
  get hasRepnePrefix(): boolean {
    return wasm().call.instruction_hasRepnePrefix!(this.at) !== 0;
  }
  get hasRepPrefix(): boolean {
    return wasm().call.instruction_hasRepPrefix!(this.at) !== 0;
  }
  get hasSegmentPrefix(): boolean {
    return wasm().call.instruction_hasSegmentPrefix!(this.at) !== 0;
  }
  get ipRelMemoryAddress(): bigint {
    return unsigned(wasm().call.instruction_ipRelMemoryAddress!(this.at));
  }
  get isCallNear(): boolean {
    return wasm().call.instruction_isCallNear!(this.at) !== 0;
  }
  get isCallNearIndirect(): boolean {
    return wasm().call.instruction_isCallNearIndirect!(this.at) !== 0;
  }
  get isInvalid(): boolean {
    return wasm().call.instruction_isInvalid!(this.at) !== 0;
  }
  get isIpRelMemoryOperand(): boolean {
    return wasm().call.instruction_isIpRelMemoryOperand!(this.at) !== 0;
  }
  get isStackInstruction(): boolean {
    return wasm().call.instruction_isStackInstruction!(this.at) !== 0;
  }
  get isStringInstruction(): boolean {
    return wasm().call.instruction_isStringInstruction!(this.at) !== 0;
  }
  get length(): number {
    return wasm().call.instruction_length!(this.at) >>> 0;
  }
  get memoryBase(): Register {
    return wasm().call.instruction_memoryBase!(this.at);
  }
  get memoryDisplacement(): bigint {
    return BigInt(wasm().call.instruction_memoryDisplacement!(this.at));
  }
  get memoryIndex(): Register {
    return wasm().call.instruction_memoryIndex!(this.at);
  }
  get memoryIndexScale(): number {
    return wasm().call.instruction_memoryIndexScale!(this.at) >>> 0;
  }
  get memorySegment(): Register {
    return wasm().call.instruction_memorySegment!(this.at);
  }
  get memorySize(): MemorySize {
    return wasm().call.instruction_memorySize!(this.at);
  }
  get mnemonic(): Mnemonic {
    return wasm().call.instruction_mnemonic!(this.at);
  }
  get nearBranchTarget(): bigint {
    return unsigned(wasm().call.instruction_nearBranchTarget!(this.at));
  }
  get nextIP(): bigint {
    return unsigned(wasm().call.instruction_nextIP!(this.at));
  }
  get op0Kind(): OpKind {
    return wasm().call.instruction_op0Kind!(this.at);
  }
  get op0Register(): Register {
    return wasm().call.instruction_op0Register!(this.at);
  }
  get op1Kind(): OpKind {
    return wasm().call.instruction_op1Kind!(this.at);
  }
  get op1Register(): Register {
    return wasm().call.instruction_op1Register!(this.at);
  }
  get opCount(): number {
    return wasm().call.instruction_opCount!(this.at) >>> 0;
  }
  get rflagsModified(): number {
    return wasm().call.instruction_rflagsModified!(this.at) >>> 0;
  }
  get rflagsRead(): number {
    return wasm().call.instruction_rflagsRead!(this.at) >>> 0;
  }
  get segmentPrefix(): Register {
    return wasm().call.instruction_segmentPrefix!(this.at);
  }
  get stackPointerIncrement(): number {
    return wasm().call.instruction_stackPointerIncrement!(this.at);
  }
  opKind(operand: number): OpKind {
    return wasm().result(2, (at) => wasm().call.instruction_opKind!(at, this.at, operand), word);
  }
  opRegister(operand: number): Register {
    return wasm().result(2, (at) => wasm().call.instruction_opRegister!(at, this.at, operand), word);
  }
  immediate(operand: number): bigint {
    const run = (at: number): unknown => wasm().call.instruction_immediate!(at, this.at, operand);
    return wasm().result(3, run, (view, at) => view.getBigUint64(at, true));
  }
}

/** The package says InstructionInfoFactory: what an instruction reads and writes, beyond its operands. */
export class UseReader extends Owned {
  constructor() {
    super(wasm().call.instructioninfofactory_new!() >>> 0);
  }
  info(instruction: Instruction): Uses {
    return new Uses(wasm().call.instructioninfofactory_info!(this.at, instruction.at) >>> 0);
  }
}

export class Uses extends Owned {
  usedMemory(): readonly UsedMemory[] {
    return wasm().take(wasm().call.instructioninfo_usedMemory!(this.at)) as UsedMemory[];
  }
  usedRegisters(): readonly UsedRegister[] {
    return wasm().take(wasm().call.instructioninfo_usedRegisters!(this.at)) as UsedRegister[];
  }
  opAccess(operand: number): OpAccess {
    return wasm().result(2, (at) => wasm().call.instructioninfo_opAccess!(at, this.at, operand), word);
  }
  free(): void {
    wasm().call.__wbg_instructioninfo_free!(this.at);
  }
}

export class UsedMemory extends Owned {
  get base(): Register {
    return wasm().call.usedmemory_base!(this.at);
  }
  get index(): Register {
    return wasm().call.usedmemory_index!(this.at);
  }
  get scale(): number {
    return wasm().call.usedmemory_scale!(this.at) >>> 0;
  }
  get displacement(): bigint {
    return unsigned(wasm().call.instruction_nextIP!(this.at));
  }
  get segment(): Register {
    return wasm().call.usedmemory_segment!(this.at);
  }
  get memorySize(): MemorySize {
    return wasm().call.usedmemory_memorySize!(this.at);
  }
  get access(): OpAccess {
    return wasm().call.usedmemory_access!(this.at);
  }
  free(): void {
    wasm().call.__wbg_usedmemory_free!(this.at);
  }
}

export class UsedRegister extends Owned {
  get register(): Register {
    return wasm().call.usedregister_register!(this.at);
  }
  get access(): OpAccess {
    return wasm().call.usedregister_access!(this.at);
  }
  free(): void {
    wasm().call.__wbg_usedregister_free!(this.at);
  }
}

/** Intel syntax, as plain as it comes: `mov rax,[rdi+0x10]`. */
export class Formatter extends Owned {
  constructor(syntax: number) {
    super(wasm().result(2, (at) => wasm().call.formatter_new!(at, syntax), word) >>> 0);
  }
  set hexPrefix(text: string) {
    const bytes = Buffer.from(text);
    wasm().call.formatter_set_hexPrefix!(this.at, wasm().place(bytes), bytes.length);
  }
  set hexSuffix(text: string) {
    const bytes = Buffer.from(text);
    wasm().call.formatter_set_hexSuffix!(this.at, wasm().place(bytes), bytes.length);
  }
  set uppercaseHex(yes: boolean) {
    wasm().call.formatter_set_uppercaseHex!(this.at, yes ? 1 : 0);
  }
  format(instruction: Instruction): string {
    const { call } = wasm();
    const run = (at: number): unknown => call.formatter_format!(at, this.at, instruction.at);
    const place = wasm().result(0, run, (view, at) => ({ at: word(view, at), lengthBytes: word(view, at + 4) }));
    const text = wasm().text(place.at, place.lengthBytes);
    call.__wbindgen_free!(place.at, place.lengthBytes, 1);
    return text;
  }
}

export const MemorySizeExt = {
  size: (size: MemorySize): number => wasm().call.memorysizeext_size!(size) >>> 0,
};

export const RegisterExt = {
  size: (register: Register): number => wasm().call.registerext_size!(register) >>> 0,
  fullRegister: (register: Register): Register => wasm().call.registerext_fullRegister!(register),
};

/** 64-bit results are signed on the way. */
const unsigned = (value: number | bigint): bigint => BigInt.asUintN(64, BigInt(value));
