// SPDX-License-Identifier: Apache-2.0
/**
 * Whether a place in a function lies in the middle of a change to shared data: stores through pointers before it and from it
 * on, with no call in between. Gets the function's code and the place; pure.
 *
 * Two stores that belong together have no call between them, mostly: a list's links, a length and its end. What is on the
 * stack, and a variable at a fixed address (a counter), does not count. Limits: `beforeBytesMax` and `afterMax` instructions.
 */
import type { InstructionSet } from "./instructionSet.ts";

const beforeBytesMax = 4_096;
const afterMax = 48;
/** DWARF numbers of the stack pointer and the frame pointer. */
const stackRegisters = { x86_64: [7, 6], aarch64: [31, 29] } as const;
const ends = /^(call|ret|jmp|bl|blr\w*|br|b)\b/;

/**
 * `code` begins at `from`, an instruction; `at` is the faulting instruction, or where `called` behind the call that led to
 * nowhere.
 */
export function isMidChange(
  instructions: InstructionSet,
  code: Uint8Array,
  from: bigint,
  at: bigint,
  called = false,
): boolean {
  if (at - from > BigInt(beforeBytesMax)) return false;
  let stored = false;
  let place = from;
  while (place < at) {
    const next = step(instructions, code, from, place);
    if (next === null) return false;
    if (called && next.end >= at) break;
    if (next.stores) stored = true;
    else if (next.isCall) stored = false;
    place = next.end;
  }
  if (!stored) return false;
  place = at;
  for (let count = 0; count < afterMax; count += 1) {
    const next = step(instructions, code, from, place);
    if (next === null || (next.ends && !next.isJump)) return false;
    if (next.stores) return true;
    place = next.end;
  }
  return false;
}

type Step = {
  readonly end: bigint;
  readonly stores: boolean;
  readonly ends: boolean;
  readonly isCall: boolean;
  readonly isJump: boolean;
};

function step(instructions: InstructionSet, code: Uint8Array, from: bigint, at: bigint): Step | null {
  const rest = code.subarray(Number(at - from));
  const length = instructions.length(rest, at);
  if (length === null) return null;
  const word = ends.exec(instructions.format(rest, at))?.[1] ?? "";
  const memory = instructions.memoryOperand(rest, at);
  const own: readonly number[] = stackRegisters[instructions.architecture];
  const stores =
    word === "" &&
    memory !== null &&
    memory.access !== "read" &&
    memory.base !== null &&
    memory.segment === null &&
    !own.includes(memory.base);
  const isJump = word === "jmp" || word === "b" || word === "br";
  return {
    end: at + BigInt(length),
    stores,
    ends: word !== "",
    isCall: word !== "" && !isJump && word !== "ret",
    isJump,
  };
}
