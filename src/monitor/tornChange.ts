// SPDX-License-Identifier: Apache-2.0
/**
 * Whether a fault has torn a change to shared data: asked after the act, so it may take its time. Gets the frames of a report
 * and the code; looks at the innermost function that is in a file.
 */
import type { CodeMap } from "#binary/codeMap.ts";
import type { InstructionSet } from "#binary/instructionSet.ts";
import { isMidChange } from "#binary/midChange.ts";
import type { Frame } from "#fault.ts";

export function isMidChangeAt(frames: readonly Frame[], map: CodeMap, instructions: InstructionSet): boolean {
  const index = frames.findIndex(({ module }) => module !== null);
  const frame = frames[index];
  const found = frame === undefined ? null : map.find(frame.pc);
  if (frame === undefined || found?.fde == null) return false;
  const { start, end } = found.fde;
  const code = found.image.codeAt(start, end - start);
  return isMidChange(instructions, code, frame.pc - BigInt(found.offset - start), frame.pc, index > 0);
}
