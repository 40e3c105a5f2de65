// SPDX-License-Identifier: Apache-2.0
/**
 * Whether the code before a return address can be a call, and where a direct call goes. Gets code bytes, gives a value.
 *
 * Only byte patterns: enough to accept a return address found on a stack and to list direct calls; what a call means is
 * the decoder's business (`x86_64.ts`, `aarch64.ts`). Source: Intel SDM volume 2, CALL; Arm ARM C6.2, BL, BLR, BLRAA.
 */
import type { Architecture } from "#fault.ts";

/** `target`: offset of the callee of a direct call, null for a call through a register or memory. */
export type CallPattern = { readonly target: number | null };

/** Longest call instruction that is looked for, in bytes. */
export const patternBytesMax = 8;
const indirect: CallPattern = { target: null };

/** The call that ends at `offset`; `code` holds the bytes just before it (up to `patternBytesMax`). */
export function callEndingAt(architecture: Architecture, code: Uint8Array, offset: number): CallPattern | null {
  return architecture === "x86_64" ? x86Call(code, offset) : armCall(code, offset);
}

/** Byte distance of an AArch64 BL instruction word, null for any other word. */
export function armBranchDistance(word: number): number | null {
  return word >>> 26 === 0b100101 ? (word << 6) >> 4 : null;
}

function x86Call(code: Uint8Array, offset: number): CallPattern | null {
  const end = code.length;
  if (end >= 5 && code[end - 5] === 0xe8) {
    const distance = code[end - 4]! | (code[end - 3]! << 8) | (code[end - 2]! << 16) | (code[end - 1]! << 24);
    return { target: offset + distance };
  }
  for (const lengthBytes of [2, 3, 4, 6, 7]) {
    const at = end - lengthBytes;
    if (at >= 0 && code[at] === 0xff && x86IndirectLength(code, at) === lengthBytes) return indirect;
  }
  return null;
}

/** Length of an `FF /2` call at `at`, 0 where it is none. */
function x86IndirectLength(code: Uint8Array, at: number): number {
  const modRm = code[at + 1] ?? 0;
  if (((modRm >> 3) & 7) !== 2) return 0;
  const mode = modRm >> 6;
  const memory = modRm & 7;
  if (mode === 3) return 2;
  const scaled = memory === 4 ? 1 : 0;
  if (mode === 1) return 3 + scaled;
  if (mode === 2) return 6 + scaled;
  const absolute = memory === 5 || (scaled === 1 && ((code[at + 2] ?? 0) & 7) === 5);
  return absolute ? 6 + scaled : 2 + scaled;
}

function armCall(code: Uint8Array, offset: number): CallPattern | null {
  const end = code.length;
  if (end < 4) return null;
  const word = code[end - 4]! | (code[end - 3]! << 8) | (code[end - 2]! << 16) | (code[end - 1]! << 24);
  const distance = armBranchDistance(word);
  if (distance !== null) return { target: offset - 4 + distance };
  const isBranchLink = (word & 0xfffffc1f) >>> 0 === 0xd63f0000;
  const isAuthenticated = (word & 0xfefff800) >>> 0 === 0xd63f0800;
  return isBranchLink || isAuthenticated ? indirect : null;
}
