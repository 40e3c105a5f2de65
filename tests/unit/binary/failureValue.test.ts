// SPDX-License-Identifier: Apache-2.0
/**
 * What a caller's test takes for a failure, from real code: bytes after a call, as gcc writes them.
 */
import { expect, test } from "bun:test";
import { failsPlainly, failureValueOf } from "#binary/failureValue.ts";
import { instructionsOf } from "#binary/instructions.ts";
import { fromHex } from "#bytes.ts";
import type { Architecture } from "#fault.ts";

const at = 0x1000n;
const decide = (code: string, architecture: Architecture = "x86_64"): bigint | null => {
  const use = instructionsOf(architecture).valueUse(fromHex(code), at);
  return use.kind === "tested" && use.test !== null ? failureValueOf(use.test, use.isCode) : null;
};

test.each([
  ["test eax,eax; jne: a status", "85c07502", -1n],
  ["test eax,eax; je: a status, the other way", "85c07402", -1n],
  ["test eax,eax; js: a negative status", "85c07802", -1n],
  ["cmp eax,-1; je", "83f8ff7402", -1n],
  ["cmp eax,-5; je: one of several codes", "83f8fb7402", -1n],
  ["test rax,rax; je: a pointer", "4885c07402", 0n],
  ["mov rbx,rax; test rax,rax; je; cmp rax,-2; jne: one of several codes", "4889c34885c074024883f8fe7502", -1n],
  ["test rax,rax; je; mov rdi,[rax]: a pointer", "4885c07403488b38c3", 0n],
  ["test rax,rax; je; xor eax,eax; ret: not looked at where it is something, a status", "4885c0740331c0c331c0c3", -1n],
  ["test rax,rax; jne; xor eax,eax; ret; xor eax,eax; ret: the other way", "4885c0750331c0c331c0c3", -1n],
  ["test rax,rax; jne; xor eax,eax; ret; ret: returned where it is something", "4885c0750331c0c3c3", 0n],
  ["test al,al; je; xor eax,eax; ret: a bool", "84c0740331c0c331c0c3", 0n],
  ["test rax,rax; js: a length or an error", "4885c07802", -1n],
  ["cmp rax,-1; je", "4883f8ff7402", -1n],
  ["test al,al; je: a bool", "84c07402", 0n],
  ["test al,4; je: one bit of several", "a8047402", 0n],
  ["cmp rax,63; ja: a size", "4883f83f7702", 0n],
] as const)("%s", (_, code, value) => {
  expect(decide(code)).toBe(value);
});

test.each([
  ["tbnz w0,31: a negative status", "4000f837", -1n],
  ["tbz x0,63: a length or an error", "4000f8b6", -1n],
  ["tbz w0,0: a bool", "40000036", 0n],
  ["cbz w0: a status", "40000034", -1n],
  ["cbz x0: a pointer", "400000b4", 0n],
] as const)("AArch64: %s", (_, code, value) => {
  expect(decide(code, "aarch64")).toBe(value);
});

test.each([
  ["test eax,eax; js", "85c07802", true],
  ["cmp eax,-1; je", "83f8ff7402", true],
  ["test eax,eax; jl", "85c07c02", true],
  ["test eax,eax; jg: what is above zero may be the failure", "85c07f02", false],
  ["test eax,eax; jne: zero may be the answer no", "85c07502", false],
  ["test rax,rax; je: null may be the answer that there is nothing", "4885c07402", false],
  ["cmp rax,63; ja", "4883f83f7702", false],
] as const)("leaves no doubt, %s", (_, code, plain) => {
  const use = instructionsOf("x86_64").valueUse(fromHex(code), at);
  expect(use.kind === "tested" && use.test !== null && failsPlainly(use.test)).toBe(plain);
});
