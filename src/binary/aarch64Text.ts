// SPDX-License-Identifier: Apache-2.0
/** AArch64 loads and stores as one line for people: gets the decoded access and its word, gives assembler text. */
import { hex } from "#bytes.ts";
import { field } from "./aarch64Decode.ts";
import type { A64Memory } from "./aarch64Memory.ts";

export function formatMemory(memory: A64Memory, word: number, at: bigint): string {
  const letter = memory.registerBits === 64 ? "x" : "w";
  const name = (register: number): string => (register === 31 ? `${letter}zr` : `${letter}${register}`);
  const status = memory.status === null ? [] : [memory.status === 31 ? "wzr" : `w${memory.status}`];
  const general = memory.access === "readWrite" ? exchanged(memory) : transferred(memory);
  const vector = memory.vector ? [`v${field(word, 0, 5)}`] : [];
  const operands = [...status, ...general.map(name), ...vector, addressText(memory, at)];
  return `${memory.mnemonic} ${operands.join(", ")}`;
}

/** CAS names the register that is compared and loaded first, the other atomics the one that is combined. */
const exchanged = ({ mnemonic, loads, stores }: A64Memory): readonly number[] =>
  mnemonic.startsWith("cas") ? [...loads, ...stores] : [...stores, ...loads];
const transferred = (memory: A64Memory): readonly number[] => [...memory.loads, ...memory.stores];

function addressText(memory: A64Memory, at: bigint): string {
  if (memory.addressBase === null) return hex(BigInt.asUintN(64, at + memory.displacement));
  const base = memory.addressBase === 31 ? "sp" : `x${memory.addressBase}`;
  if (memory.index !== null) {
    const name = { none: "lsl", signed32: "sxtw", unsigned32: "uxtw" }[memory.extend];
    const shift = memory.scale === 1 ? "" : ` #${Math.log2(memory.scale)}`;
    const how = memory.extend === "none" && shift === "" ? "" : `, ${name}`;
    return `[${base}, ${memory.extend === "none" ? "x" : "w"}${memory.index}${how}${shift}]`;
  }
  const { writeBack } = memory;
  if (writeBack !== null && typeof writeBack !== "bigint") return `[${base}], x${writeBack.register}`;
  if (writeBack !== null && memory.displacement === 0n && writeBack !== 0n) return `[${base}], #${writeBack}`;
  return `[${base}${memory.displacement === 0n ? "" : `, #${memory.displacement}`}]${writeBack === null ? "" : "!"}`;
}
