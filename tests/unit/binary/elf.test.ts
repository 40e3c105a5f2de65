// SPDX-License-Identifier: Apache-2.0
/**
 * ELF outline, frame table and rows on written files: what is read, and what is refused with which words.
 */
import { expect, test } from "bun:test";
import { type ElfImage, parseElf } from "#binary/elf.ts";
import { codeAt, type TinyElf, tinyElf } from "./tinyElf.ts";

const pushRbp = [0x41, 0x0e, 16, 0x86, 2, 0x43, 0x0d, 6];
const functions = [
  { start: codeAt + 0x40, lengthBytes: 0x20, cfi: pushRbp },
  { start: codeAt, lengthBytes: 0x20, cfi: [] },
];

const row = (image: ElfImage, offset: number): string => {
  const found = image.rowAt(offset);
  if (found === null) return "none";
  const rules = found.rules.map((rule) => `${rule.register}${rule.kind}${rule.operand}`);
  return `cfa=${found.cfaRegister}+${found.cfaOffset} ${rules.join(" ")}`;
};

test("build-id, machine and fixed addresses are read from the outline", () => {
  const image = parseElf(tinyElf({ buildId: "00112233445566778899aabbccddeeff00112233" }));
  expect(image.buildId).toBe("00112233445566778899aabbccddeeff00112233");
  expect(image.architecture).toBe("x86_64");
  expect(image.layout.kind).toBe("shared");
  expect(parseElf(tinyElf({ machine: 183, type: 2 })).layout.kind).toBe("executable");
});

test.each([
  [{ elfClass: 1, machine: 3 }, "binary.architecture", "32-bit program (32-bit x86)"],
  [{ elfClass: 1, machine: 62 }, "binary.architecture", "x32"],
  [{ machine: 243 }, "binary.architecture", "RISC-V"],
  [{ type: 1 }, "binary.elf", "neither an executable nor a shared object"],
] satisfies [TinyElf, string, string][])("%p is refused as %s", (options, code, words) => {
  const refused = expect(() => parseElf(tinyElf(options)));
  refused.toThrow(expect.objectContaining({ code, message: expect.stringContaining(words) }));
});

test("what is no ELF file is refused", () => {
  expect(() => parseElf(new TextEncoder().encode("#!/bin/sh\n"))).toThrow(
    expect.objectContaining({ code: "binary.elf" }),
  );
});

test.each([true, false])("rows are found by offset (search header: %p)", (withHeader) => {
  const bytes = tinyElf({ functions, withHeader });
  const image = parseElf(withHeader ? bytes : withSection(bytes));
  expect(image.frames.count).toBe(2);
  expect(row(image, codeAt)).toBe("cfa=7+8 16offset-8");
  expect(row(image, codeAt + 0x1f)).toBe("cfa=7+8 16offset-8");
  expect(row(image, codeAt + 0x20)).toBe("none");
  expect(row(image, codeAt + 0x40)).toBe("cfa=7+8 16offset-8");
  expect(row(image, codeAt + 0x41)).toBe("cfa=7+16 16offset-8 6offset-16");
  expect(row(image, codeAt + 0x44)).toBe("cfa=6+16 16offset-8 6offset-16");
  expect(row(image, codeAt + 0x60)).toBe("none");
  expect(image.fdeAt(codeAt + 0x5f)).toMatchObject({ start: codeAt + 0x40, end: codeAt + 0x60 });
});

test("a search header out of order is not trusted", () => {
  const bytes = tinyElf({ functions });
  new DataView(bytes.buffer).setInt32(0x3000 + 12, 0x7fff_0000, true);
  expect(row(parseElf(bytes), codeAt + 0x41)).toBe("cfa=7+16 16offset-8 6offset-16");
});

test.each([
  ["remember and restore", [0x0a, 0x41, 0x0e, 32, 0x0b, 0x41], 2, "cfa=7+8 16offset-8"],
  ["restore of one register", [0x86, 2, 0x41, 0xc6], 2, "cfa=7+8 16offset-8"],
  ["signed factored offsets", [0x12, 6, 0x7e, 0x11, 3, 0x7f], 1, "cfa=6+16 16offset-8 3offset8"],
  ["same, undefined, register", [0x08, 3, 0x07, 16, 0x09, 12, 13], 1, "cfa=7+8 16undefined0 3same0 12register13"],
  ["argument size is skipped", [0x2e, 0x10, 0x14, 12, 2], 1, "cfa=7+8 16offset-8 12valueOffset-16"],
  ["two-byte advance", [0x03, 0x10, 0x00, 0x0e, 64], 0x10, "cfa=7+64 16offset-8"],
])("call-frame instructions: %s", (_, cfi, inside, expected) => {
  const image = parseElf(tinyElf({ functions: [{ start: codeAt, lengthBytes: 0x20, cfi }] }));
  expect(row(image, codeAt + inside)).toBe(expected);
});

test.each([
  ["unknown instruction", [0x3f]],
  ["restore without remember", [0x0b]],
  ["expression longer than the entry", [0x0f, 0x7f]],
  ["register that does not exist", [0x0c, 0xff, 0x7f, 8]],
])("damaged call-frame instructions give no row: %s", (_, cfi) => {
  const image = parseElf(tinyElf({ functions: [{ start: codeAt, lengthBytes: 0x20, cfi }] }));
  expect(row(image, codeAt)).toBe("none");
});

test("AArch64 marks rows with a signed return address", () => {
  const cfi = [0x2d, 0x41, 0x2d];
  const image = parseElf(tinyElf({ machine: 183, functions: [{ start: codeAt, lengthBytes: 0x20, cfi }] }));
  expect(image.rowAt(codeAt)?.signed).toBe(true);
  expect(image.rowAt(codeAt + 1)?.signed).toBe(false);
});

/** Appends section headers that name `.eh_frame`. */
function withSection(bytes: Uint8Array): Uint8Array {
  const names = new TextEncoder().encode("\0.eh_frame\0.shstrtab\0");
  const all = new Uint8Array(bytes.length + 256 + names.length);
  all.set(bytes);
  all.set(names, bytes.length + 192);
  const view = new DataView(all.buffer);
  view.setBigUint64(40, BigInt(bytes.length), true);
  view.setUint16(58, 64, true);
  view.setUint16(60, 3, true);
  view.setUint16(62, 2, true);
  const sections = [
    [1, 1, 0x1000, 0x1000],
    [11, 3, bytes.length + 192, names.length],
  ];
  for (const [index, [name = 0, type = 0, at = 0, size = 0]] of sections.entries()) {
    const entry = bytes.length + (index + 1) * 64;
    view.setUint32(entry, name, true);
    view.setUint32(entry + 4, type, true);
    view.setBigUint64(entry + 16, BigInt(at), true);
    view.setBigUint64(entry + 24, BigInt(at), true);
    view.setBigUint64(entry + 32, BigInt(size), true);
  }
  return all;
}
