// SPDX-License-Identifier: Apache-2.0
/**
 * Where in a function a fault of a kind can be set up so that it is one the code could have had. Gets a program's text and
 * a function; gives places and what to do there. Pure; x86-64 only.
 *
 * Bad bases: any instruction that reads or writes through a register that the function owns. Null call: the entry.
 * Abort: where the function itself calls what never returns, from any place with the same stack frame.
 */
import { callingConvention } from "#binary/callingConvention.ts";
import type { Row } from "#binary/cfi.ts";
import type { MemoryOperand } from "#binary/instructionSet.ts";
import { instructionsOf } from "#binary/instructions.ts";
import type { Random } from "#clock.ts";
import { type CodeFunction, type ProgramText, shuffled } from "./hotCode.ts";
import type { Act } from "./orders.ts";

export const faultKinds = ["nullBase", "wildBase", "nullCall", "abort"] as const;
export type FaultKind = (typeof faultKinds)[number];

/** `place` and `returnTo` are offsets in the file until they are moved to a process. */
export type FaultPlace = { readonly place: number; readonly act: Act };

const [rbp, rsp] = [6, 7];
const entryCfaBytes = 8;
/** Not canonical; page and address that nobody maps. A bad rbp of the first kind is a SIGBUS of its own, so not used. */
const nonCanonical = 0x4141_4141_4141_4140n;
const unmapped = 0x0000_1badbad0_000n;

export function placesIn(
  text: ProgramText,
  { start, end }: CodeFunction,
  kind: FaultKind,
  random: Random,
): FaultPlace[] {
  const entry = text.image.rowAt(start);
  const isEntered = entry?.cfaRegister === rsp && entry.cfaOffset === entryCfaBytes;
  switch (kind) {
    case "nullCall":
      return isEntered ? [{ place: start, act: { kind } }] : [];
    case "abort":
      return abortPlaces(text, start, end, random);
    case "nullBase":
    case "wildBase":
      return memoryPlaces(text, start, end, kind, random);
  }
}

type Instruction = { readonly offset: number; readonly lengthBytes: number; readonly operand: MemoryOperand | null };

const instructions = instructionsOf("x86_64");

function* instructionsIn({ image }: ProgramText, start: number, end: number): Generator<Instruction> {
  const code = image.codeAt(start, end - start);
  for (let at = 0; at < code.length; ) {
    const rest = code.subarray(at);
    const lengthBytes = instructions.length(rest, BigInt(start + at));
    if (lengthBytes === null) return;
    const flows = /^(call|jmp|nop|prefetch)/.test(instructions.format(rest, BigInt(start + at)));
    const operand = flows ? null : instructions.memoryOperand(rest, BigInt(start + at));
    yield { offset: start + at, lengthBytes, operand };
    at += lengthBytes;
  }
}

function memoryPlaces(
  text: ProgramText,
  start: number,
  end: number,
  kind: "nullBase" | "wildBase",
  random: Random,
): FaultPlace[] {
  const places: FaultPlace[] = [];
  for (const { offset, operand } of instructionsIn(text, start, end)) {
    if (operand === null || operand.base === null || operand.segment !== null || operand.bytes === 0) continue;
    if (!ownsRegister(text.image.rowAt(offset), operand.base)) continue;
    const index = operand.index === null ? null : { register: operand.index, scale: operand.scale };
    const value = kind === "nullBase" ? 0n : operand.base === rbp || random() < 0.5 ? unmapped : nonCanonical;
    const { base: register, displacement } = operand;
    places.push({ place: offset, act: { kind, register, value, index, displacement } });
  }
  return shuffled(places, random);
}

/** A register of the caller that this function has not saved is not its own to have a bad value in. */
function ownsRegister(row: Row | null, register: number): boolean {
  if (row === null || register === rsp || register === row.cfaRegister) return false;
  if (!callingConvention.x86_64.calleeSaved.includes(register)) return true;
  return row.rules.some((rule) => rule.register === register && rule.kind === "offset");
}

function abortPlaces(text: ProgramText, start: number, end: number, random: Random): FaultPlace[] {
  const all = [...instructionsIn(text, start, end)];
  const returns = all
    .map(({ offset, lengthBytes }) => offset + lengthBytes)
    .filter((offset) => isCallBefore(text, offset) && !text.noReturn.canFollow(offset));
  const places = shuffled(all, random).flatMap(({ offset }): FaultPlace[] => {
    const frame = frameText(text.image.rowAt(offset));
    const returnTo = returns.find((end) => frame !== "" && frameText(text.image.rowAt(end - 1)) === frame);
    return returnTo === undefined ? [] : [{ place: offset, act: { kind: "abort", abort: 0, returnTo } }];
  });
  return places;
}

const callLengths = { direct: 5, slot: 6 } as const;

function isCallBefore({ image }: ProgramText, offset: number): boolean {
  const before = image.codeAt(offset - callLengths.slot, callLengths.slot);
  return before[1] === 0xe8 || (before[0] === 0xff && before[1] === 0x15);
}

const frameText = (row: Row | null): string =>
  row === null || row.cfaExpression !== null
    ? ""
    : `${row.cfaRegister}+${row.cfaOffset} ${row.rules.map(({ register, kind, operand }) => `${register}${kind}${operand}`)}`;
