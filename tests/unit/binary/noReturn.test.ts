// SPDX-License-Identifier: Apache-2.0
/**
 * Calls that never return, inferred from written code without any name.
 */
import { expect, test } from "bun:test";
import { parseElf } from "#binary/elf.ts";
import { NoReturn } from "#binary/noReturn.ts";
import { codeAt, tinyElf } from "./tinyElf.ts";

const size = 0x40;
const fatal = codeAt;
const useful = codeAt + size;
const callers = [2, 3, 4, 5].map((index) => codeAt + index * size);
const functions = [fatal, useful, ...callers].map((start) => ({ start, lengthBytes: size, cfi: [] }));

function prepared(code: Uint8Array, machine: number): NoReturn {
  const noReturn = new NoReturn(parseElf(tinyElf({ code, functions, machine })));
  let steps = 0;
  while (noReturn.step(1024)) {
    steps += 1;
    expect(steps).toBeLessThan(100);
  }
  expect(noReturn.isPrepared).toBe(true);
  return noReturn;
}

function x86Code(): Uint8Array {
  const code = new Uint8Array(0x200);
  const call = (returnOffset: number, to: number): void => {
    code[returnOffset - 5 - codeAt] = 0xe8;
    new DataView(code.buffer).setInt32(returnOffset - 4 - codeAt, to - returnOffset, true);
  };
  const [first = 0, second = 0, third = 0] = callers;
  // first: `useful` in the middle, `fatal` as the last instruction.
  call(first + 0x10, useful);
  call(first + size, fatal);
  // second: `fatal`, then only padding.
  call(second + 0x20, fatal);
  code.set([0x66, 0x2e, 0x0f, 0x1f, 0x84, 0, 0, 0, 0, 0], second + 0x20 - codeAt);
  code.fill(0xcc, second + 0x2a - codeAt, second + size - codeAt);
  // third: `fatal` before a block that a branch reaches, then `useful` before code.
  call(third + 0x10, fatal);
  code.set([0x31, 0xc0, 0xc3], third + 0x10 - codeAt);
  code.set([0x74, 0x10 - 2], third - codeAt);
  call(third + 0x20, useful);
  code.set([0xc3], third + 0x20 - codeAt);
  return code;
}

function armCode(): Uint8Array {
  const code = new Uint8Array(0x200).fill(0x11);
  const view = new DataView(code.buffer);
  const put = (offset: number, word: number): void => view.setUint32(offset - codeAt, word, true);
  const call = (returnOffset: number, to: number): void =>
    put(returnOffset - 4, 0x94000000 | (((to - returnOffset + 4) >> 2) & 0x3ffffff));
  const [first = 0, second = 0, third = 0] = callers;
  call(first + 0x10, useful);
  call(first + size, fatal);
  call(second + 0x38, fatal);
  put(second + 0x38, 0xd503201f);
  put(second + 0x3c, 0xd4207d00);
  call(third + 0x10, fatal);
  // cbz x0, third + 0x10
  put(third, 0xb4000000 | ((0x10 >> 2) << 5));
  call(third + 0x20, useful);
  return code;
}

test.each([
  ["x86-64", x86Code(), 62],
  ["AArch64", armCode(), 183],
] as const)("%s: a callee whose calls end functions never returns", (_, code, machine) => {
  const noReturn = prepared(code, machine);
  const [first = 0, second = 0, third = 0] = callers;
  expect([...noReturn.callees]).toEqual([fatal]);
  expect(noReturn.neverReturns(useful)).toBe(false);
  expect(noReturn.canFollow(first + 0x10)).toBe(true);
  expect(noReturn.canFollow(first + size)).toBe(false);
  expect(noReturn.canFollow(second + (machine === 62 ? 0x20 : 0x38))).toBe(false);
  expect(noReturn.canFollow(third + 0x10)).toBe(false);
  expect(noReturn.canFollow(third + 0x20)).toBe(true);
});

test("the end of a function is known before the scan", () => {
  const noReturn = new NoReturn(parseElf(tinyElf({ code: x86Code(), functions })));
  expect(noReturn.isPrepared).toBe(false);
  expect(noReturn.canFollow(callers[0]! + size)).toBe(false);
  expect(noReturn.canFollow(callers[2]! + 0x10)).toBe(true);
});
