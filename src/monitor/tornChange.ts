// SPDX-License-Identifier: Apache-2.0
/**
 * Whether a fault, or what was done about it, has torn a change to shared data: asked after the act, so it may take its time.
 * Gets the frames of a report and the code; looks at the innermost function that is in a file, and at the one that goes on.
 */
import type { CodeMap } from "#binary/codeMap.ts";
import type { InstructionSet } from "#binary/instructionSet.ts";
import { isMidChange } from "#binary/midChange.ts";
import { address, type Edit, type Frame } from "#fault.ts";

const unlocks = /^(pthread_(mutex|rwlock|spin)_unlock|__pthread_(mutex|rwlock)_unlock)(@plt)?$/;
const instructionsMax = 12;
const callWord = /^(call|bl|blr\w*)\b/;
const endWord = /^(ret|jmp|b|br)\b/;

/** `released`: a lock of the abandoned work had to be released: that in the middle of a change is torn, too. */
export const isTorn = (
  frames: readonly Frame[],
  edit: Edit,
  released: boolean,
  map: CodeMap,
  instructions: InstructionSet,
): boolean =>
  (released && isMidChangeAt(frames, map, instructions)) || isCutFromLockedWork(frames, edit, map, instructions);

function isMidChangeAt(frames: readonly Frame[], map: CodeMap, instructions: InstructionSet): boolean {
  const index = frames.findIndex(({ module }) => module !== null);
  const frame = frames[index];
  const found = frame === undefined ? null : map.find(frame.pc);
  if (frame === undefined || found?.fde == null) return false;
  const { start, end } = found.fde;
  const code = found.image.codeAt(start, end - start);
  return isMidChange(instructions, code, frame.pc - BigInt(found.offset - start), frame.pc, index > 0);
}

/**
 * Whether what was abandoned is a piece of the work that its caller does under a lock: the caller does not look at the value,
 * and the next it does is to unlock. What it protects then lacks that piece, and its caller cannot know.
 */
function isCutFromLockedWork(
  frames: readonly Frame[],
  edit: Edit,
  map: CodeMap,
  instructions: InstructionSet,
): boolean {
  if (edit.kind !== "abandon" || frames[edit.point.frame]?.afterCall !== "ignored") return false;
  const caller = frames[edit.point.frame + 1];
  const found = caller === undefined ? null : map.find(caller.pc);
  if (caller === undefined || found?.fde == null) return false;
  const { start, end } = found.fde;
  const code = found.image.codeAt(start, end - start);
  const from = caller.pc - BigInt(found.offset - start);
  let at: bigint = caller.pc;
  for (let count = 0; count < instructionsMax; count += 1) {
    const rest = code.subarray(Number(at - from));
    const length = instructions.length(rest, at);
    if (length === null) return false;
    const text = instructions.format(rest, at);
    if (endWord.test(text)) return false;
    at += BigInt(length);
    if (!callWord.test(text)) continue;
    const whole = code.subarray(0, Number(at - from));
    const call = instructions.callBefore(whole.subarray(-16), at, whole);
    return call.kind === "direct" && unlocks.test(map.symbolAt(address(call.target)) ?? "");
  }
  return false;
}
