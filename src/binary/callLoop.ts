// SPDX-License-Identifier: Apache-2.0
/**
 * Whether code calls a function in a loop: from the return address on, some way leads to the same call again. Pure.
 *
 * Gets single steps from a decoder, and where it is asked for one returned value, the test of it; gives yes or no. A call
 * that is made again and again, whatever came of the last one, ends one turn of a loop. Limits: 512 instructions, direct
 * jumps and branches only; within the bytes that the decoder is given.
 */
import { branchTaken, type ValueTest } from "./instructionSet.ts";
import type { Place, StepAt } from "./valueUse.ts";

const instructionsMax = 512;
/** From the call to the branch that looks at its value. */
const straightMax = 6;

export function comesBack(stepAt: StepAt, returnAddress: bigint, from = returnAddress): boolean {
  const seen = new Set<bigint>();
  const starts = [from];
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

/** The same for one returned value; null where it is not tested at once. `result`: the register that holds it. */
export function comesBackWith(
  stepAt: StepAt,
  returnAddress: bigint,
  result: Place,
  test: ValueTest,
  value: bigint,
): boolean | null {
  let isTested = false;
  let at = returnAddress;
  for (let count = 0; count < straightMax; count += 1) {
    const step = stepAt(at);
    if (step === null) return null;
    const after = at + BigInt(step.lengthBytes);
    isTested ||= step.tests.some(({ place }) => place === result);
    if (step.flow === "branch") {
      const taken = isTested ? branchTaken(test, value) : null;
      if (taken === null || step.target === null) return null;
      return comesBack(stepAt, returnAddress, taken ? step.target : after);
    }
    if (step.flow !== "next") return null;
    at = after;
  }
  return null;
}
