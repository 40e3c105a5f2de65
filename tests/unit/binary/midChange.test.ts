// SPDX-License-Identifier: Apache-2.0
/**
 * Between two writes of one change, or not: short functions in machine code of both architectures, and where each faults.
 */
import { expect, test } from "bun:test";
import { instructionsOf } from "#binary/instructions.ts";
import { isMidChange } from "#binary/midChange.ts";
import { fromHex } from "#bytes.ts";
import type { Architecture } from "#fault.ts";

const from = 0x1000n;
const at = (code: string, before: string, architecture: Architecture = "x86_64", called = false): boolean =>
  isMidChange(instructionsOf(architecture), fromHex(before + code), from, from + BigInt(before.length / 2), called);

/** mov [rcx+8],rax; mov [rax],rcx; mov rax,[rdi]; call; ret; mov [rsp+8],rax; add dword [rip],1; test rcx,rcx + je */
const [link, back, load, call, ret] = ["48894108", "488908", "488b07", "e800000000", "c3"];
const [onStack, counter, branch] = ["4889442408", "8305000000000100".slice(0, 14), "4885c97404"];

test.each([
  ["a list's second link (an LRU's unlink in memcached, 2026-11-23)", link + branch, back + ret, true],
  ["a load between two writes", link, load + back + ret, true],
  ["the first write", load, link + ret, false],
  ["nothing is written after it", link, load + ret, false],
  ["a call lies between", link + call, back + ret, false],
  ["what is on the stack is nobody else's", onStack, onStack + ret, false],
  ["a counter at a fixed address", counter, counter + ret, false],
])("%s", (_, before, code, torn) => {
  expect(at(code, before)).toBe(torn);
});

test("a call that led to nowhere is itself no end of what was written before it", () => {
  expect(at(back + ret, `${link}ffd0`, "x86_64", true)).toBe(true);
  expect(at(ret, `${link}ffd0`, "x86_64", true)).toBe(false);
});

/** str x1,[x0,8]; str x0,[x1]; bl; ret; str x1,[sp,8] */
test.each([
  ["AArch64: a list's second link", "010400f9", "200000f9c0035fd6", true],
  ["AArch64: a call lies between", "010400f900000094", "200000f9c0035fd6", false],
  ["AArch64: the stack", "e10700f9", "200000f9c0035fd6", false],
])("%s", (_, before, code, torn) => {
  expect(at(code, before, "aarch64")).toBe(torn);
});
