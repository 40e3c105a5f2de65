// SPDX-License-Identifier: Apache-2.0
/** Our way into iced-x86 beside its own: the same answers to every question, for code of the C library and for noise. */
import { expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { parseElf } from "#binary/elf.ts";
import * as numbers from "#binary/x86_64Iced.gen.ts";
import * as ours from "#binary/x86_64Iced.ts";
import { seededRandom } from "#clock.ts";
import { BinaryError } from "#errors.ts";
import { iced, packageInstruction } from "#tests/oracles/iced.ts";

const seed = 8_112;
const random = seededRandom(seed);

/** Everything that ours can be asked; by the package's own names. */
const questions = Object.entries(Object.getOwnPropertyDescriptors(ours.Instruction.prototype))
  .filter(([, { get }]) => get !== undefined)
  .map(([name]) => name);

/** 60 functions of the C library where it is one for x86-64, then noise. */
function* codes(): Generator<Uint8Array> {
  const path = /\S+\/libc\.so\S*$/m.exec(readFileSync("/proc/self/maps", "latin1"))![0];
  const image = parseElf(new Uint8Array(readFileSync(path)));
  const step = Math.max(1, Math.floor(image.frames.count / 60));
  for (let index = 0; image.architecture === "x86_64" && index < image.frames.count; index += step) {
    let code = image.codeAt(image.frames.startAt(index), 96);
    for (let size = 1; code.length > 0 && size > 0; code = code.subarray(size)) {
      yield code;
      const instruction = packageInstruction(code);
      size = instruction?.length ?? 0;
      instruction?.free();
    }
  }
  for (let index = 0; index < 800; index += 1) yield Uint8Array.from({ length: 15 }, () => Math.floor(random() * 256));
}

type Used = { readonly access: number; free(): void } & Record<string, unknown>;
const ofUsed = (used: readonly Used[], names: readonly string[]): unknown[] =>
  used.map((one) => {
    const answers = names.map((name) => one[name]);
    one.free();
    return answers;
  });
const memoryNames = ["base", "index", "scale", "displacement", "segment", "memorySize", "access"];

/** All answers about one instruction, from either side. */
function answersOf(instruction: ours.Instruction, factory: ours.UseReader, formatter: ours.Formatter) {
  const operands = Array.from({ length: instruction.opCount }, (_, index) => index);
  const found = factory.info(instruction);
  const answers = {
    single: questions.map((name) => [name, (instruction as unknown as Record<string, unknown>)[name]]),
    kinds: operands.map((index) => instruction.opKind(index)),
    registers: operands
      .filter((index) => instruction.opKind(index) === numbers.OpKind.Register)
      .map((index) => instruction.opRegister(index)),
    immediates: operands
      .filter((index) => instruction.opKind(index) === numbers.OpKind.Immediate8)
      .map((index) => instruction.immediate(index)),
    access: operands.map((index) => found.opAccess(index)),
    memory: ofUsed(found.usedMemory() as unknown as Used[], memoryNames),
    used: ofUsed(found.usedRegisters() as unknown as Used[], ["register", "access"]),
    text: formatter.format(instruction),
  };
  found.free();
  return answers;
}

test(`every answer about an instruction is the package's (seed ${seed})`, () => {
  const [ourFactory, theirFactory] = [new ours.UseReader(), new iced.InstructionInfoFactory()];
  const [ourFormatter, theirFormatter] = [new ours.Formatter(1), new iced.Formatter(1)];
  const instruction = new ours.Instruction();
  let compared = 0;
  for (const code of codes()) {
    const theirs = packageInstruction(code, 0x40_1000n);
    const decoder = new ours.Decoder(64, code.subarray(0, 15), 0);
    decoder.ip = 0x40_1000n;
    expect(decoder.canDecode).toBe(true);
    decoder.decodeOut(instruction);
    decoder.free();
    if (instruction.isInvalid !== (theirs === null)) expect(code).toEqual(new Uint8Array());
    if (theirs === null) continue;
    compared += 1;
    const their = answersOf(theirs as never, theirFactory as never, theirFormatter as never);
    const our = answersOf(instruction, ourFactory, ourFormatter);
    if (!Bun.deepEquals(our, their)) expect(our).toEqual(their);
    theirs.free();
  }
  expect(compared).toBeGreaterThan(1_000);
});

test("numbers of enumerations are the package's, and sizes of registers and memory too", () => {
  const theirs = iced as unknown as Record<string, Record<string, number>>;
  for (const [name, ofOurs] of Object.entries(numbers)) {
    for (const [key, value] of Object.entries(ofOurs)) expect(`${key} ${value}`).toBe(`${key} ${theirs[name]![key]}`);
  }
  for (let register = 0; register <= 248; register += 1) {
    expect(ours.RegisterExt.size(register)).toBe(iced.RegisterExt.size(register));
    expect(ours.RegisterExt.fullRegister(register)).toBe(iced.RegisterExt.fullRegister(register));
  }
  for (let size = 0; size <= 100; size += 1) expect(ours.MemorySizeExt.size(size)).toBe(iced.MemorySizeExt.size(size));
});

test("a result that it refuses is an error of ours, and what was taken by the stack is given back", () => {
  const instruction = new ours.Instruction();
  // More than its stack of 1 MiB has room for results.
  let refused = 0;
  for (let round = 0; round < 66_000; round += 1) {
    try {
      instruction.opKind(99);
    } catch (error) {
      refused += error instanceof BinaryError ? 1 : 0;
    }
  }
  expect(refused).toBe(66_000);
  expect(() => new ours.Decoder(17, new Uint8Array(1), 0)).toThrow("refused");
});
