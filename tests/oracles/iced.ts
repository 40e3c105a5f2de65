// SPDX-License-Identifier: Apache-2.0
/** iced-x86 by its own JavaScript: what it knows of an instruction beyond what ours asks, and the measure for ours. */
import * as iced from "iced-x86";

export { iced };

/** The instruction at the start of `code` by the package; null where there is none. Yours to free. */
export function packageInstruction(code: Uint8Array, at = 0n): iced.Instruction | null {
  const decoder = new iced.Decoder(64, code.subarray(0, 15), iced.DecoderOptions.None);
  decoder.ip = at;
  const instruction = decoder.decode();
  decoder.free();
  if (!instruction.isInvalid) return instruction;
  instruction.free();
  return null;
}

/** What `ask` wants to know of the instruction; null where there is none. */
export function askPackage<T>(code: Uint8Array, ask: (instruction: iced.Instruction) => T): T | null {
  const instruction = packageInstruction(code);
  if (instruction === null) return null;
  const answer = ask(instruction);
  instruction.free();
  return answer;
}
