// SPDX-License-Identifier: Apache-2.0
/**
 * The register layout of both architectures from descriptions that real stubs sent, and patches of raw registers.
 */
import { expect, test } from "bun:test";
import { GdbError } from "#errors.ts";
import { patchRegisters, type RegisterLayout, readDescription, readRegisters } from "#monitor/gdb/registers.ts";
import { aarch64Documents, x86Documents } from "./vectors.ts";

function layoutOf(documents: ReadonlyMap<string, string>): RegisterLayout {
  const description = readDescription(documents);
  if (description.kind === "missing") throw new RangeError(description.document);
  return description.layout;
}

test("x86-64: general registers by DWARF number, at gdbserver's offsets", () => {
  const layout = layoutOf(x86Documents);
  expect(layout.architecture).toBe("x86_64");
  expect(layout.totalBytes).toBe(2416);
  // gdbserver sends rax rbx rcx rdx rsi rdi rbp rsp r8..r15 rip; DWARF numbers rax rdx rcx rbx rsi rdi rbp rsp.
  expect(layout.general.map(({ offset }) => offset / 8)).toEqual([
    0, 3, 2, 1, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16,
  ]);
  expect([layout.pc, layout.sp]).toEqual([16, 7]);
  expect(layout.flags).toEqual({ offset: 136, lengthBytes: 4 });
  expect(layout.origRax?.lengthBytes).toBe(8);
});

test("x86-64: a description without registers stands for gdbserver's fixed ones", () => {
  const text = "<target><architecture>i386:x86-64</architecture><osabi>GNU/Linux</osabi></target>";
  const layout = layoutOf(new Map([["target.xml", text]]));
  expect(layout.totalBytes).toBe(560);
  const full = layoutOf(x86Documents);
  expect(layout.general).toEqual(full.general);
  expect(layout.flags).toEqual(full.flags);
  expect([layout.origRax?.offset, layout.threadPointer?.offset]).toEqual([536, 544]);
});

test("AArch64: includes are followed in place", () => {
  const layout = layoutOf(aarch64Documents);
  expect(layout.architecture).toBe("aarch64");
  expect(layout.general.map(({ offset }) => offset / 8)).toEqual(Array.from({ length: 33 }, (_, index) => index));
  expect([layout.pc, layout.sp]).toEqual([32, 31]);
  expect(layout.flags).toEqual({ offset: 264, lengthBytes: 4 });
  // qemu leaves the vector and system registers out of `g`.
  expect(readRegisters(layout, new Uint8Array(268))).toHaveLength(33);
});

test("a missing document is asked for by name, one after the other", () => {
  const documents = new Map<string, string>();
  const asked: string[] = [];
  for (
    let description = readDescription(documents);
    description.kind === "missing";
    description = readDescription(documents)
  ) {
    asked.push(description.document);
    documents.set(description.document, aarch64Documents.get(description.document)!);
  }
  expect(asked).toEqual(["target.xml", "aarch64-core.xml", "sve-registers.xml", "system-registers.xml"]);
});

const reg = (name: string, bits: number | string, more = ""): string =>
  `<reg name="${name}" bitsize="${bits}" ${more}/>`;
const broken: readonly (readonly [what: string, xml: string])[] = [
  ["nothing", ""],
  ["a 32-bit program", `<target>${reg("eax", 32)}${reg("eip", 32)}</target>`],
  ["a register twice", reg("rax", 64) + reg("rax", 64)],
  ["a number twice", reg("rax", 64, 'regnum="3"') + reg("rbx", 64, 'regnum="3"')],
  ["a wrong size", reg("rip", 32)],
  ["a size of zero", reg("rip", 0)],
  ["a huge size", reg("rip", 99999999)],
  ["a size that is no number", reg("rip", "x")],
  ["a huge number", reg("rip", 64, 'regnum="99999999999"')],
  ["a negative number", reg("rip", 64, 'regnum="-1"')],
  ["itself included for ever", '<xi:include href="target.xml"/>'],
  ["registers missing", reg("rip", 64) + reg("eflags", 32)],
  ["no name", '<reg bitsize="64"/>'],
  ["registers in a comment", "<!-- rip -->"],
];

test.each(broken)("a description with %s is refused with a reason", (_, xml) => {
  expect(() => readDescription(new Map([["target.xml", xml]]))).toThrow(GdbError);
});

test("registers are read and patched in place; a changed program counter ends a system call's restart", () => {
  const layout = layoutOf(x86Documents);
  const raw = new Uint8Array(layout.totalBytes).map((_, index) => index & 0xff);
  const patched = patchRegisters(
    layout,
    raw,
    new Map([
      [16, 0xffff_8000_1234_5678n],
      [0, -1n],
    ]),
  );
  const registers = readRegisters(layout, patched);
  expect(registers[16]).toBe(0xffff_8000_1234_5678n);
  expect(registers[0]).toBe(0xffff_ffff_ffff_ffffn);
  expect(registers[3]).toBe(readRegisters(layout, raw)[3]!);
  const changed = [...patched.keys()].filter((index) => patched[index] !== raw[index]);
  const within = ({ offset, lengthBytes }: { offset: number; lengthBytes: number }) =>
    changed.filter((index) => index >= offset && index < offset + lengthBytes).length;
  expect(within(layout.general[16]!) + within(layout.general[0]!) + within(layout.origRax!)).toBe(changed.length);
  expect(within(layout.origRax!)).toBeGreaterThan(0);
  const kept = patchRegisters(layout, raw, new Map([[0, 5n]]));
  expect(kept.slice(8)).toEqual(raw.slice(8));
  expect(raw[0]).toBe(0);
});

test("AArch64: a changed program counter clears the branch type, nothing else of the flags", () => {
  const layout = layoutOf(aarch64Documents);
  const raw = new Uint8Array(268).fill(0xff);
  const flags = (bytes: Uint8Array): number => new DataView(bytes.buffer).getUint32(layout.flags.offset, true);
  expect(flags(patchRegisters(layout, raw, new Map([[32, 0n]])))).toBe(0xffff_f3ff);
  expect(flags(patchRegisters(layout, raw, new Map([[0, 0n]])))).toBe(0xffff_ffff);
});

test("AArch64: the low half of a vector register is written, its high half cleared; not where the stub shows none", () => {
  const layout = layoutOf(aarch64Documents);
  const raw = new Uint8Array(layout.totalBytes).fill(0xff);
  const slot = layout.vectors.get(73)!;
  const patched = patchRegisters(layout, raw, new Map([[73, 0x1122_3344_5566_7788n]]));
  const bytes = patched.subarray(slot.offset, slot.offset + slot.lengthBytes);
  expect(new DataView(bytes.buffer, bytes.byteOffset).getBigUint64(0, true)).toBe(0x1122_3344_5566_7788n);
  expect(new Set(bytes.subarray(8))).toEqual(new Set([0]));
  expect(patched.filter((byte, index) => byte !== raw[index])).toHaveLength(slot.lengthBytes);
  expect(() => patchRegisters(layout, new Uint8Array(268), new Map([[73, 1n]]))).toThrow(GdbError);
});

test("registers of another length, or a register that does not exist, are refused", () => {
  const layout = layoutOf(x86Documents);
  expect(() => readRegisters(layout, new Uint8Array(layout.totalBytes + 1))).toThrow(GdbError);
  expect(() => readRegisters(layout, new Uint8Array(layout.neededBytes - 1))).toThrow(GdbError);
  expect(() => patchRegisters(layout, new Uint8Array(layout.totalBytes), new Map([[17, 0n]]))).toThrow(GdbError);
});
