// SPDX-License-Identifier: Apache-2.0
/**
 * One x86-64 instruction by iced-x86: gets bytes and an address, gives the decoded instruction or null.
 *
 * iced-x86 is loaded by the first call (20 ms, 4 MiB of memory) and never on AArch64. Its objects live in
 * WebAssembly memory: the one instruction returned here is reused by the next call, so nobody keeps it.
 */
import { instructionBytesMax } from "./instructionSet.ts";
import * as numbers from "./x86_64Iced.gen.ts";
import * as Iced from "./x86_64Iced.ts";

/** A register name of x86-64 as a part of a full register. */
export type RegisterPart = {
  /** DWARF number of the full register; null for vector, mask, segment and all other registers. */
  readonly dwarf: number | null;
  readonly bits: 8 | 16 | 32 | 64;
  /** 8 for ah, ch, dh, bh. */
  readonly shift: number;
};

/** rax rcx rdx rbx rsp rbp rsi rdi r8..r15, the order of the encoding, as DWARF numbers. */
const dwarfOfEncoding = [0, 2, 1, 3, 7, 6, 4, 5, 8, 9, 10, 11, 12, 13, 14, 15] as const;
export const flagsDwarf = 49;
export const pcDwarf = 16;
const registersMax = 256;

/** Its classes, and the numbers of its enumerations that we use. */
const library = { ...Iced, ...numbers };

export type Loaded = {
  readonly lib: typeof library;
  readonly instruction: Iced.Instruction;
  readonly facts: Iced.UseReader;
  readonly formatter: Iced.Formatter;
  readonly parts: readonly RegisterPart[];
};

let loaded: Loaded | undefined;

export function iced(): Loaded {
  loaded ??= load();
  return loaded;
}

function load(): Loaded {
  const lib = library;
  const formatter = new lib.Formatter(lib.FormatterSyntax.Intel);
  formatter.hexPrefix = "0x";
  formatter.hexSuffix = "";
  formatter.uppercaseHex = false;
  return {
    lib,
    instruction: new lib.Instruction(),
    facts: new lib.UseReader(),
    formatter,
    parts: Array.from({ length: registersMax }, (_, register) => partOf(lib, register)),
  };
}

function partOf(lib: typeof library, register: number): RegisterPart {
  const none: RegisterPart = { dwarf: null, bits: 64, shift: 0 };
  if (register > lib.Register.R15 || register === lib.Register.None) return none;
  const bits = (lib.RegisterExt.size(register) * 8) as RegisterPart["bits"];
  const full = lib.RegisterExt.fullRegister(register) - lib.Register.RAX;
  const high = register >= lib.Register.AH && register <= lib.Register.BH;
  return { dwarf: dwarfOfEncoding[full] ?? null, bits, shift: high ? 8 : 0 };
}

/** The instruction at `offset` of `code`, valid until the next call; null where there is none. */
export function decodeAt(code: Uint8Array, at: bigint, offset = 0): Iced.Instruction | null {
  if (offset < 0 || offset >= code.length) return null;
  const { lib, instruction } = iced();
  const bytes = code.subarray(offset, offset + instructionBytesMax);
  const decoder = new lib.Decoder(64, bytes, lib.DecoderOptions.None);
  decoder.ip = at;
  decoder.decodeOut(instruction);
  decoder.free();
  return instruction.isInvalid ? null : instruction;
}
