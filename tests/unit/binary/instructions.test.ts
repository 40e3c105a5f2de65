// SPDX-License-Identifier: Apache-2.0
/** Both instruction sets on known bytes: calls, values after a call, completed instructions, padding. */
import { describe, expect, test } from "bun:test";
import { branchTaken, effectiveAddress } from "#binary/instructionSet.ts";
import { instructionsOf } from "#binary/instructions.ts";
import { fromHex } from "#bytes.ts";
import type { Registers } from "#fault.ts";

const x86 = instructionsOf("x86_64");
const arm = instructionsOf("aarch64");
const bytes = (text: string): Uint8Array => fromHex(text.replaceAll(" ", ""));
const at = 0x401000n;

describe("x86-64 calls", () => {
  const kinds: [string, string][] = [
    ["e8 00 01 00 00", "direct"],
    ["67 e8 00 01 00 00", "direct"],
    ["66 66 48 e8 00 01 00 00", "direct"],
    ["ff d0", "pointer"],
    ["41 ff d4", "pointer"],
    ["3e ff d0", "pointer"],
    ["ff 50 18", "pointer"],
    ["ff 14 c5 00 10 40 00", "pointer"],
    ["41 ff 94 24 a8 00 00 00", "pointer"],
    ["ff 15 00 20 00 00", "slot"],
    ["66 48 ff 15 00 20 00 00", "slot"],
    ["48 89 c3 90", "none"],
    ["0f 05", "none"],
  ];
  for (const [text, kind] of kinds) {
    test(`${text} is ${kind}`, () => {
      const before = bytes(`90 90 90 ${text}`);
      expect(x86.callBefore(before, at).kind).toBe(kind as "direct");
      expect(x86.callBefore(before, at, before).kind).toBe(kind as "direct");
    });
  }
  test("targets and slots are resolved", () => {
    expect(x86.callBefore(bytes("e8 00 01 00 00"), at)).toEqual({ kind: "direct", target: 0x401100n, lengthBytes: 5 });
    expect(x86.callBefore(bytes("ff 15 00 20 00 00"), at)).toEqual({ kind: "slot", slot: 0x403000n, lengthBytes: 6 });
    expect(x86.callBefore(bytes("41 ff d4"), at)).toEqual({
      kind: "pointer",
      register: 12,
      memory: null,
      lengthBytes: 3,
    });
  });
  test("a direct call that would reach too far is the end of an indirect one", () => {
    expect(x86.callBefore(bytes("e8 11 22 ff d0"), at).kind).toBe("pointer");
  });
});

describe("x86-64 values after a call", () => {
  const uses: [string, string][] = [
    ["85 c0 74 05", "tested"],
    ["89 c3 48 89 ef e8 00 00 00 00 85 db 78 10", "tested"],
    ["89 45 fc 83 7d fc 00 75 02", "tested"],
    ["83 e8 01 74 02", "tested"],
    ["48 8b 00", "used"],
    ["48 89 c7 e8 00 00 00 00", "used"],
    ["31 c0 c3", "ignored"],
    ["b8 01 00 00 00", "ignored"],
    ["48 83 c4 08 c3", "returned"],
    ["ff e0", "used"],
    ["0f 0b", "unknown"],
  ];
  for (const [text, kind] of uses) {
    test(`${text} is ${kind}`, () => expect(x86.valueUse(bytes(text), at).kind).toBe(kind as "used"));
  }
  test("the constant of a test says which values take the branch", () => {
    const minusOne = x86.testOf(bytes("83 f8 ff 74 05"), at);
    expect(minusOne).toEqual({ bits: 32, offset: 0n, mask: null, against: 0xffff_ffffn, condition: "equal" });
    expect(minusOne && branchTaken(minusOne, -1n)).toBe(true);
    expect(minusOne && branchTaken(minusOne, 0n)).toBe(false);
    const ranged = x86.testOf(bytes("8d 50 ff 83 fa 05 77 05"), at);
    expect(ranged && [0n, 1n, 6n, 7n].map((value) => branchTaken(ranged, value))).toEqual([true, false, false, true]);
  });
});

const registersOf = (values: Record<number, bigint>): Registers =>
  Array.from({ length: 50 }, (_, register) => values[register] ?? null);

describe("x86-64 completed instructions", () => {
  const flags = 0x202n;
  const skips: [string, Record<number, bigint>, unknown][] = [
    ["48 8b 03", {}, { kind: "zero", registers: [0] }],
    ["8b 43 10", {}, { kind: "zero", registers: [0] }],
    ["0f b6 03", {}, { kind: "zero", registers: [0] }],
    ["8a 03", { 0: 0x1234n }, { kind: "set", writes: [[0, 0x1200n]] }],
    ["8a 03", {}, null],
    ["89 03", {}, { kind: "drop" }],
    ["0f 11 03", {}, { kind: "drop" }],
    ["0f 10 03", {}, null],
    ["83 3b 00", { 49: flags }, { kind: "set", writes: [[49, 0x246n]] }],
    ["f7 f1", {}, { kind: "zero", registers: [0, 1] }],
    ["ff 13", {}, null],
    ["ff 33", {}, null],
    ["0f 0b", {}, null],
    ["90", {}, null],
    [
      "f3 aa",
      { 2: 16n, 5: 0x1000n, 49: flags },
      {
        kind: "set",
        writes: [
          [5, 0x1010n],
          [2, 0n],
        ],
      },
    ],
  ];
  for (const [text, values, skip] of skips) {
    test(`${text} with ${Object.keys(values).length} registers`, () => {
      const state = { registers: registersOf(values), faultAddress: null };
      expect(x86.faulting(bytes(text), at, state).skip).toEqual(skip as null);
    });
  }
  test("the memory operand names base, index and width", () => {
    const operand = x86.memoryOperand(bytes("48 8b 44 8b 10"), at);
    expect(operand).toMatchObject({ base: 3, index: 2, scale: 4, displacement: 16n, bytes: 8, access: "read" });
    expect(operand && effectiveAddress(operand, registersOf({ 3: 0x1000n, 2: 2n }))).toBe(0x1018n);
  });
});

test("x86-64 padding", () => {
  expect(x86.padding(bytes("cc"), at)).toBe("trap");
  expect(x86.padding(bytes("0f 0b"), at)).toBe("trap");
  expect(x86.padding(bytes("66 0f 1f 44 00 00 55 90"), at + 2n)).toBe("fill");
  expect(x86.padding(bytes("90 c9 c3"), at)).toBe(null);
  expect(x86.padding(bytes("48 89 c3"), at)).toBe(null);
});

const words = (...list: number[]): Uint8Array => new Uint8Array(new Uint32Array(list).buffer);

describe("AArch64", () => {
  test("calls", () => {
    expect(arm.callBefore(words(0x94000040), at)).toEqual({ kind: "direct", target: at + 0xfcn, lengthBytes: 4 });
    for (const word of [0xd63f0100, 0xd63f091f, 0xd63f0d1f, 0xd73f0909, 0xd73f0d09]) {
      expect(arm.callBefore(words(word), at)).toEqual({ kind: "pointer", register: 8, memory: null, lengthBytes: 4 });
    }
    expect(arm.callBefore(words(0xd61f0100), at).kind).toBe("none");
  });
  const uses: [string, string, number[]][] = [
    ["cbz w0", "tested", [0x34000040]],
    ["mov w19, w0; cmp w19, #0; b.lt", "tested", [0x2a0003f3, 0x7100027f, 0x5400004b]],
    ["cmn w0, #1; b.eq", "tested", [0x3100041f, 0x54000040]],
    ["str w0, [sp, #28]; ldr w1, [sp, #28]; cmp w1, #0", "tested", [0xb9001fe0, 0xb9401fe1, 0x7100003f]],
    ["ldr x1, [x0]", "used", [0xf9400001]],
    ["mov w0, #1", "ignored", [0x52800020]],
    ["ldp x29, x30, [sp], #16; ret", "returned", [0xa8c17bfd, 0xd65f03c0]],
    ["bl", "unknown", [0x94000000]],
  ];
  for (const [text, kind, list] of uses) {
    test(`${text} is ${kind}`, () => expect(arm.valueUse(words(...list), at).kind).toBe(kind as "used"));
  }
  const skips: [string, number, unknown][] = [
    ["ldr x0, [x1, #16]", 0xf9400820, { kind: "zero", registers: [0] }],
    ["ldp x1, x2, [x3]", 0xa9400861, { kind: "zero", registers: [1, 2] }],
    ["str x0, [x1]", 0xf9000020, { kind: "drop" }],
    ["str xzr, [x3], #8", 0xf800847f, { kind: "set", writes: [[3, 0x1008n]] }],
    ["ldr q0, [x1]", 0x3dc00020, null],
    ["str q0, [x1]", 0x3d800020, { kind: "drop" }],
    ["ldxr x0, [x1]", 0xc85f7c20, null],
    ["stxr w5, x0, [x1]", 0xc8057c20, { kind: "zero", registers: [5] }],
    ["ldadd x5, x0, [x1]", 0xf8250020, { kind: "zero", registers: [0] }],
    ["cas w5, w0, [x1]", 0x88a57c20, { kind: "zero", registers: [5] }],
    ["dc zva, x3", 0xd50b7423, { kind: "drop" }],
    ["udiv x0, x1, x2", 0x9ac20820, null],
    ["brk #1000", 0xd4207d00, null],
  ];
  for (const [text, word, skip] of skips) {
    test(text, () => {
      const state = { registers: registersOf({ 3: 0x1000n }), faultAddress: null };
      expect(arm.faulting(words(word), at, state).skip).toEqual(skip as null);
    });
  }
  test("padding", () => {
    expect(arm.padding(words(0xd4207d00), at)).toBe("trap");
    expect(arm.padding(words(0), at)).toBe("trap");
    expect(arm.padding(words(0xd503201f, 0xd503233f), at + 4n)).toBe("fill");
    expect(arm.padding(words(0xd503233f), at)).toBe(null);
  });
});
