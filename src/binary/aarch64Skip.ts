// SPDX-License-Identifier: Apache-2.0
/**
 * Completes a faulting AArch64 load or store by hand: memory reads as zero, writes are lost, write-back is done.
 *
 * Refused: vector loads (vector registers are not written), load-exclusive (its store would fail for ever, and the loop
 * around the two would fault for ever), write-back to a register that is transferred too, and authenticated write-back.
 * A store-exclusive is lost and reports success. Division never faults here (Arm ARM C6.2, UDIV).
 */
import type { InstructionSkip } from "#fault.ts";
import type { A64Memory } from "./aarch64Memory.ts";
import type { StoppedState } from "./instructionSet.ts";

const zeroRegister = 31;

export function skipOf(memory: A64Memory, state?: StoppedState): InstructionSkip | null {
  const loads = memory.access === "read" || memory.access === "readWrite";
  if (loads && (memory.vector || memory.exclusive)) return null;
  if (memory.mnemonic.startsWith("ldra") && memory.writeBack !== null) return null;
  const zeroed = [...memory.loads, memory.status ?? zeroRegister].filter((register) => register !== zeroRegister);
  if (memory.writeBack === null) {
    return zeroed.length === 0 ? { kind: "drop" } : { kind: "zero", registers: zeroed };
  }
  const moved = writtenBack(memory, state);
  if (moved === null) return null;
  return { kind: "set", writes: [...zeroed.map((register) => [register, 0n] as const), moved] };
}

function writtenBack(memory: A64Memory, state: StoppedState | undefined): readonly [number, bigint] | null {
  const { addressBase, writeBack } = memory;
  if (addressBase === null || writeBack === null) return null;
  const transferred = [...memory.loads, ...memory.stores];
  if (addressBase !== zeroRegister && transferred.includes(addressBase)) return null;
  const from = state?.registers[addressBase];
  const step = typeof writeBack === "bigint" ? writeBack : state?.registers[writeBack.register];
  if (from === undefined || from === null || step === undefined || step === null) return null;
  return [addressBase, BigInt.asUintN(64, from + step)];
}
