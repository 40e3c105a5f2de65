// SPDX-License-Identifier: Apache-2.0
/**
 * Completes STOS, LODS, SCAS and MOVS that fault: the rest of the repetition at once, pointers and count advanced.
 *
 * MOVS only where the destination faulted: zeros for a destination that is fine would have to be stored. CMPS, INS and
 * OUTS never. The fault leaves rcx, rsi and rdi at the element that failed (Intel SDM volume 2, REP).
 */
import type { InstructionSkip } from "#fault.ts";
import { statusFlags, subtract } from "./x86_64Arithmetic.ts";
import type { Completion } from "./x86_64Completion.ts";
import { iced } from "./x86_64Decode.ts";

const rcx = 2;
const rsi = 4;
const rdi = 5;
const directionFlag = 0x400n;
/** The processor may touch a whole line ahead of the element it names. */
const touchBytes = 64n;

export function completeString(completion: Completion, faultAddress: bigint | null): InstructionSkip | null {
  const { lib } = iced();
  const { Mnemonic } = lib;
  const { instruction } = completion;
  const size = BigInt(lib.MemorySizeExt.size(instruction.memorySize));
  const repeats = instruction.hasRepPrefix || instruction.hasRepnePrefix;
  if (usesShortAddresses(completion)) return null;
  switch (instruction.mnemonic) {
    case Mnemonic.Stosb:
    case Mnemonic.Stosw:
    case Mnemonic.Stosd:
    case Mnemonic.Stosq:
      advance(completion, [rdi], size, repeats ? completion.full(rcx) : null);
      return completion.skip();
    case Mnemonic.Lodsb:
    case Mnemonic.Lodsw:
    case Mnemonic.Lodsd:
    case Mnemonic.Lodsq:
      if (repeats) return null;
      completion.assign(0, 0n);
      advance(completion, [rsi], size, null);
      return completion.skip();
    case Mnemonic.Scasb:
    case Mnemonic.Scasw:
    case Mnemonic.Scasd:
    case Mnemonic.Scasq:
      return scan(completion, size);
    case Mnemonic.Movsb:
    case Mnemonic.Movsw:
    case Mnemonic.Movsd:
    case Mnemonic.Movsq:
      if (!destinationFaulted(completion, faultAddress)) return null;
      advance(completion, [rdi, rsi], size, repeats ? completion.full(rcx) : null);
      return completion.skip();
    default:
      return null;
  }
}

function usesShortAddresses(completion: Completion): boolean {
  const { OpKind } = iced().lib;
  const wide = [OpKind.MemoryESRDI, OpKind.MemorySegRSI, OpKind.Register] as number[];
  for (let index = 0; index < completion.instruction.opCount; index += 1) {
    if (!wide.includes(completion.instruction.opKind(index))) return true;
  }
  return false;
}

/** Moves the pointers by `count` elements (null: one, without a count register). */
function advance(completion: Completion, pointers: readonly number[], size: bigint, count: bigint | null): void {
  const step = completion.flag(directionFlag) ? -size : size;
  for (const pointer of pointers) put(completion, pointer, completion.full(pointer) + step * (count ?? 1n));
  if (count !== null) put(completion, rcx, 0n);
}

function put(completion: Completion, dwarf: number, value: bigint): void {
  completion.write({ dwarf, bits: 64, shift: 0 }, value);
}

/** Compares the accumulator with zeros: at most one element where that decides, all of them where it does not. */
function scan(completion: Completion, size: bigint): InstructionSkip | null {
  const { instruction } = completion;
  const { result, flags } = subtract(completion.value(0), 0n, completion.bits(0));
  const repeats = instruction.hasRepePrefix || instruction.hasRepnePrefix;
  const stopsAtFirst = instruction.hasRepnePrefix ? result === 0n : result !== 0n;
  const left = repeats ? completion.full(rcx) : 1n;
  const done = repeats && !stopsAtFirst ? left : 1n;
  const step = completion.flag(directionFlag) ? -size : size;
  put(completion, rdi, completion.full(rdi) + step * done);
  if (repeats) put(completion, rcx, left - done);
  completion.setFlags(statusFlags, flags);
  return completion.skip();
}

function destinationFaulted(completion: Completion, faultAddress: bigint | null): boolean {
  if (faultAddress === null || completion.instruction.hasSegmentPrefix) return false;
  const near = (pointer: bigint): boolean => faultAddress > pointer - touchBytes && faultAddress < pointer + touchBytes;
  return near(completion.full(rdi)) && !near(completion.full(rsi));
}
