// SPDX-License-Identifier: Apache-2.0
/**
 * Hostile ELF files, call-frame information, expressions, mappings and stacks: a typed error or an answer, in bounded time.
 *
 * Real files of this machine are cut off and have bytes changed; small written ones are changed where it hurts most.
 * fast-check prints the seed of a failure.
 */
import { expect, test } from "bun:test";
import { existsSync, readFileSync } from "node:fs";
import fc from "fast-check";
import { CodeMap } from "#binary/codeMap.ts";
import { type ElfImage, parseElf } from "#binary/elf.ts";
import { evaluate } from "#binary/expression.ts";
import { parseMaps } from "#binary/maps.ts";
import { NoReturn } from "#binary/noReturn.ts";
import { stubName } from "#binary/plt.ts";
import { unwind, unwindBlocked } from "#binary/unwind.ts";
import { BinaryError } from "#errors.ts";
import { address } from "#fault.ts";
import { long } from "#tests/skip.ts";
import { codeAt, tinyElf } from "#tests/unit/binary/tinyElf.ts";

const runs = long("fuzz") ? 20_000 : 400;
/** Every Debian has one of these; they are small, stripped and position independent. */
const realFiles = ["/bin/true", "/lib64/ld-linux-x86-64.so.2", "/lib/ld-linux-aarch64.so.1"].filter((path) =>
  existsSync(path),
);
const stepsMax = 20_000;

/** Asks an image everything the fault path asks. Only BinaryError may be thrown, and only by opening: then false. */
function exercise(bytes: Uint8Array, offsets: readonly number[]): boolean {
  let image: ElfImage;
  try {
    image = parseElf(bytes);
  } catch (error) {
    expect(error).toBeInstanceOf(BinaryError);
    return false;
  }
  for (const offset of offsets) {
    image.rowAt(offset);
    image.fdeAt(offset);
    image.symbolAt(offset);
    image.codeAt(offset, 16);
    image.staysWritable(offset);
    stubName(image, offset);
  }
  const noReturn = new NoReturn(image);
  let steps = 0;
  while (noReturn.step(65_536)) {
    steps += 1;
    expect(steps).toBeLessThan(stepsMax);
  }
  for (const offset of offsets) noReturn.canFollow(offset);
  return true;
}

const offsets = fc.array(fc.oneof(fc.nat(0x3_0000), fc.double({ min: 0, max: 2 ** 53, noNaN: true })), {
  maxLength: 8,
});

test("any bytes", () => {
  const elfHead = fc.uint8Array({ maxLength: 2_000 }).map((rest) => {
    const bytes = Uint8Array.from([0x7f, 0x45, 0x4c, 0x46, 2, 1, 1, ...rest]);
    if (bytes.length > 64) bytes.set([3, 0, 62, 0], 16);
    return bytes;
  });
  fc.assert(
    fc.property(fc.oneof(fc.uint8Array({ maxLength: 300 }), elfHead), offsets, (bytes, places) => {
      exercise(bytes, places);
    }),
    { numRuns: runs },
  );
});

/** Places that hold counts, offsets and lengths are hit more often than the rest. */
const damage = (lengthBytes: number): fc.Arbitrary<readonly (readonly [number, number])[]> =>
  fc.array(
    fc.tuple(
      fc.oneof(
        { weight: 1, arbitrary: fc.nat(63) },
        { weight: 4, arbitrary: fc.integer({ min: 64, max: 800 }) },
        { weight: 8, arbitrary: fc.nat(lengthBytes - 1) },
        { weight: 4, arbitrary: fc.integer({ min: Math.max(0, lengthBytes - 2_048), max: lengthBytes - 1 }) },
      ),
      fc.oneof(fc.constantFrom(0, 1, 0x7f, 0x80, 0xff), fc.nat(255)),
    ),
    { minLength: 1, maxLength: 12 },
  );

function damaged(bytes: Uint8Array, changes: readonly (readonly [number, number])[], lengthBytes: number): Uint8Array {
  const copy = bytes.slice(0, lengthBytes);
  for (const [at, value] of changes) if (at < copy.length) copy[at] = value;
  return copy;
}

test("there is a real file to damage", () => {
  expect(realFiles.length).toBeGreaterThan(0);
});

for (const path of realFiles) {
  const bytes = new Uint8Array(readFileSync(path));
  test(`${path}: cut off and changed`, () => {
    const whole = fc.constant(bytes.length);
    const lengths = fc.oneof(
      { weight: 4, arbitrary: whole },
      { weight: 2, arbitrary: fc.nat(bytes.length) },
      { weight: 1, arbitrary: fc.nat(4_096) },
    );
    let opened = 0;
    const numRuns = Math.ceil(runs / 4);
    fc.assert(
      fc.property(damage(bytes.length), lengths, offsets, (changes, lengthBytes, places) => {
        if (exercise(damaged(bytes, changes, lengthBytes), places)) opened += 1;
      }),
      { numRuns },
    );
    expect(opened).toBeGreaterThan(numRuns / 5);
  });
}

/** Instructions that are mostly valid, so that a run gets past the first. */
const cfi = fc
  .array(
    fc.oneof(
      fc.constantFrom(
        [0x41],
        [0x0e, 16],
        [0x86, 2],
        [0x0c, 7, 16],
        [0x0d, 6],
        [0x0a],
        [0x0b],
        [0x2d],
        [0xc6],
        [0x0e, 0xff, 0x7f],
      ),
      fc.uint8Array({ minLength: 1, maxLength: 4 }).map((bytes) => [...bytes]),
      fc.uint8Array({ maxLength: 12 }).map((bytes) => [0x0f, bytes.length, ...bytes]),
      fc.uint8Array({ maxLength: 12 }).map((bytes) => [0x16, 6, bytes.length, ...bytes]),
    ),
    { maxLength: 12 },
  )
  .map((parts) => parts.flat());

const maps = `555500000000-555500004000 r-xp 00000000 00:00 7 /program
7ffd00000000-7ffd00010000 rw-p 00000000 00:00 0 [stack]
`;
const stackAt = 0x7ffd_0000_0000n;

test("any call-frame information over any stack: the walk ends, within its limit", () => {
  const word = fc.oneof(
    fc.bigInt({ min: 0n, max: (1n << 64n) - 1n }),
    fc.integer({ min: 0, max: 0x8000 }).map((inside) => stackAt + BigInt(inside)),
    fc.integer({ min: codeAt, max: codeAt + 0x100 }).map((offset) => 0x5555_0000_0000n + BigInt(offset)),
  );
  const world = fc.record({
    machine: fc.constantFrom(62, 183),
    augmentation: fc.constantFrom("zR", "zRS", "zRB"),
    rules: fc.tuple(cfi, cfi),
    code: fc.uint8Array({ minLength: 0x100, maxLength: 0x100 }),
    registers: fc.array(fc.oneof(word, fc.constant(null)), { minLength: 33, maxLength: 33 }),
    stack: fc.array(word, { minLength: 16, maxLength: 256 }),
  });
  fc.assert(
    fc.property(world, ({ machine, augmentation, rules, code, registers, stack }) => {
      const functions = rules.map((each, index) => ({ start: codeAt + index * 0x80, lengthBytes: 0x80, cfi: each }));
      const image = parseElf(tinyElf({ machine, augmentation, functions, code }));
      const codeMap = new CodeMap(parseMaps(maps), new Map([["/program", image]]));
      const words = new BigUint64Array(0x2000);
      for (let index = 0; index < words.length; index += 1) words[index] = stack[index % stack.length]!;
      const bytes = new Uint8Array(words.buffer);
      const read = (from: bigint, lengthBytes: number): Uint8Array => {
        const inside = from - stackAt;
        if (inside < 0n || inside >= BigInt(bytes.length)) return new Uint8Array();
        return bytes.subarray(Number(inside), Number(inside) + lengthBytes);
      };
      const limit = 200;
      expect(unwind(registers, read, codeMap, limit).frames.length).toBeLessThanOrEqual(limit);
      const [pc, sp] = [registers[0] ?? 0n, registers[1] ?? 0n];
      const blocked = unwindBlocked(address(pc), address(sp), read, codeMap, limit);
      expect(blocked.frames.length).toBeLessThanOrEqual(limit);
    }),
    { numRuns: runs },
  );
});

test("any expression gives a value or a typed error", () => {
  const registers = Array.from({ length: 17 }, (_, index) => (index % 3 === 0 ? null : BigInt(index) << 40n));
  const context = { registers, bias: 0n, readValue: (from: bigint) => (from % 2n === 0n ? from : null) };
  fc.assert(
    fc.property(
      fc.uint8Array({ maxLength: 64 }),
      fc.option(fc.bigInt({ min: 0n, max: 1n << 63n })),
      (code, initial) => {
        try {
          const value = evaluate(code, initial, context);
          expect(value === null || (value >= 0n && value < 1n << 64n)).toBe(true);
        } catch (error) {
          expect(error).toBeInstanceOf(BinaryError);
        }
      },
    ),
    { numRuns: runs * 5 },
  );
});

test("any text as mappings", () => {
  const line = fc.stringMatching(
    /^[0-9a-f]{1,17}-[0-9a-f]{1,17} [r-][w-][x-][ps] [0-9a-f]{1,9} 00:00 \d{1,20} .{0,20}$/,
  );
  fc.assert(
    fc.property(fc.array(fc.oneof(line, fc.string()), { maxLength: 20 }), (lines) => {
      const image = parseElf(tinyElf());
      const mappings = parseMaps(`${lines.join("\n")}\n${maps}`);
      const codeMap = new CodeMap(mappings, new Map([["/program", image]]));
      for (const { start, end } of mappings) {
        codeMap.find(start);
        codeMap.slotKind(end);
      }
      expect(mappings.length).toBeGreaterThanOrEqual(2);
    }),
    { numRuns: runs },
  );
});
