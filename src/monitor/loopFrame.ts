// SPDX-License-Identifier: Apache-2.0
/**
 * In which function a thread goes round: the innermost frame that is on its stack at every one of several looks. Gets the
 * frames of each look and where the spine begins; gives that frame's canonical address, or null where there is none that
 * may be abandoned. Pure.
 *
 * What is inside of it comes and goes with each round. All outside of it must not have moved: a return address that differs
 * between two looks means that the thread gets on.
 */
import type { VirtualAddress } from "#fault.ts";
import type { SpineFrame } from "./spines.ts";

export type StackLook = {
  readonly frames: readonly SpineFrame[];
  /** Index of the innermost frame of the spine. */
  readonly spine: number | null;
};

export function loopFrame(looks: readonly StackLook[]): VirtualAddress | null {
  const [last, ...others] = [...looks].reverse();
  if (last === undefined || last.spine === null || others.length === 0) return null;
  const { frames, spine } = last;
  const inner = frames.findIndex((frame) => others.every((look) => matching(look.frames, frame) !== null));
  if (inner < 0 || inner >= spine) return null;
  const outside = frames.slice(inner + 1, spine + 1);
  const isStill = outside.every((frame) => others.every((look) => matching(look.frames, frame)?.pc === frame.pc));
  // Code that nothing is known of is not judged: it may have been made at run time.
  const isKnown = frames.slice(inner, spine).every((frame) => frame.function !== null);
  return isStill && isKnown ? frames[inner]!.cfa : null;
}

/** The frame of the same activation: same place on the stack, same function. */
function matching(frames: readonly SpineFrame[], wanted: SpineFrame): SpineFrame | null {
  if (wanted.cfa === null) return null;
  return frames.find((frame) => frame.cfa === wanted.cfa && frame.function === wanted.function) ?? null;
}
