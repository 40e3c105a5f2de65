// SPDX-License-Identifier: Apache-2.0
/**
 * Whether code calls a function in a loop: from the return address on, some way leads to the same call again. Pure.
 *
 * Gets single steps from a decoder. A call that is made again and again, whatever came of the last one, ends one turn of
 * a loop. Limits: 512 instructions, direct jumps and branches only; within the bytes that the decoder is given.
 */
import type { StepAt } from "./valueUse.ts";

const instructionsMax = 512;

export function comesBack(stepAt: StepAt, returnAddress: bigint): boolean {
  const seen = new Set<bigint>();
  const starts = [returnAddress];
  for (let at = starts.pop(); at !== undefined; at = starts.pop()) {
    while (at !== undefined && !seen.has(at) && seen.size < instructionsMax) {
      seen.add(at);
      const step = stepAt(at);
      if (step === null || step.flow === "stop" || step.flow === "return") break;
      const after: bigint = at + BigInt(step.lengthBytes);
      if (step.flow === "call" && after === returnAddress) return true;
      if (step.flow === "branch" && step.target !== null) starts.push(step.target);
      at = step.flow === "jump" ? (step.target ?? undefined) : after;
    }
  }
  return false;
}
