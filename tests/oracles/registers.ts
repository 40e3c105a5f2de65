// SPDX-License-Identifier: Apache-2.0
/** Register files for the execution oracle: values that reach edge cases, drawn from a seeded sequence. */

import { flagsDwarf } from "#binary/x86_64Decode.ts";
import type { Random } from "#clock.ts";
import type { Architecture, Registers } from "#fault.ts";
import { flagsSlot, slots } from "./execute.ts";

const statusFlags = 0x8d5n;
const alwaysSet = 0x202n;

/** A register value: often zero, small, all ones, or 32 bits wide. */
export function drawValue(random: Random): bigint {
  const word = (): bigint => BigInt(Math.floor(random() * 2 ** 32));
  const kind = random();
  if (kind < 0.15) return 0n;
  if (kind < 0.3) return word() & 0xffn;
  if (kind < 0.4) return 0xffff_ffff_ffff_ffffn;
  return kind < 0.5 ? word() : (word() << 32n) | word();
}

export function drawRegisters(architecture: Architecture, random: Random): bigint[] {
  const registers = Array.from({ length: slots }, () => drawValue(random));
  registers[flagsSlot] = drawFlags(architecture, random);
  return registers;
}

function drawFlags(architecture: Architecture, random: Random): bigint {
  const draw = BigInt(Math.floor(random() * 4096));
  return architecture === "x86_64" ? alwaysSet | (draw & statusFlags) : (draw & 0xfn) << 28n;
}

/** The record of the oracle as the register file of a stopped thread. The stack pointer is not in the record. */
export function asRegisters(architecture: Architecture, record: readonly bigint[]): Registers {
  if (architecture === "aarch64") return record.slice(0, 31);
  const registers: (bigint | null)[] = Array.from({ length: flagsDwarf + 1 }, () => null);
  for (let dwarf = 0; dwarf < 16; dwarf += 1) if (dwarf !== 7) registers[dwarf] = record[dwarf] ?? 0n;
  registers[flagsDwarf] = record[flagsSlot] ?? 0n;
  return registers;
}
