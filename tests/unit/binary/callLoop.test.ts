// SPDX-License-Identifier: Apache-2.0
/**
 * Which calls are made again and again, from real code: a loop as gcc writes it, and what only looks like one.
 */
import { expect, test } from "bun:test";
import { instructionsOf } from "#binary/instructions.ts";
import { fromHex } from "#bytes.ts";
import type { Architecture } from "#fault.ts";

const from = 0x1000n;
const decide = (code: string, offset: number, architecture: Architecture, value?: bigint): boolean | null =>
  instructionsOf(architecture).comesBack(fromHex(code), from + BigInt(offset), from, value);

test.each([
  // aeMain of redis 7.0.15: mov esi,27; mov rdi,rbx; call; mov eax,[rbx+40]; test eax,eax; je back; pop rbx; ret
  ["while (!stop) turn()", "be1b0000004889dfe8b3f3ffff8b432885c074ec5bc3", 13, true],
  ["a call of the same function once more, elsewhere", "e8b3f3ffffe8aef3ffffc3", 5, false],
  ["no way back: test eax,eax; je on; ret; ret", "e8b3f3ffff85c07401c3c3", 5, false],
  ["a jump back: call; jmp to it", "e8b3f3ffffebf9", 5, true],
] as const)("%s", (_, code, offset, comesBack) => {
  expect(decide(code, offset, "x86_64")).toBe(comesBack);
});

test.each([
  // bl; cbz w0 back to it; ret
  ["a loop", "00000094e0ffff34c0035fd6", 4, true],
  ["no loop: bl; cbz w0 on; ret", "0000009440000034c0035fd6", 4, false],
] as const)("AArch64: %s", (_, code, offset, comesBack) => {
  expect(decide(code, offset, "aarch64")).toBe(comesBack);
});

test("of two values, one keeps a loop going and one ends it: if (turn() != 0) return", () => {
  // call; test eax,eax; jne to the ret; jmp back; ret
  const code = "e8b3f3ffff85c07502ebf5c3";
  expect([0n, -1n].map((value) => decide(code, 5, "x86_64", value))).toEqual([true, false]);
  // bl; cbnz w0 to the ret; b back; ret
  const arm = "0000009440000035feffff17c0035fd6";
  expect([0n, -1n].map((value) => decide(arm, 4, "aarch64", value))).toEqual([true, false]);
  expect(decide("e8b3f3ffffebf9", 5, "x86_64", 0n)).toBeNull();
});
