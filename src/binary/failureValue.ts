// SPDX-License-Identifier: Apache-2.0
/**
 * The value by which a function most likely says that it failed, from how its caller tests what it returns. Pure.
 *
 * Gets a test; gives -1 or 0, or null where the test does not tell. The conventions of C: a status is an `int` that is
 * zero where all went well, or negative where not; a pointer is null and a `bool` is false where there is nothing.
 */
import type { Condition, ValueTest } from "./instructionSet.ts";

const statusFailure = -1n;
const nothing = 0n;

const orders: ReadonlySet<Condition> = new Set(["less", "lessEqual", "greater", "greaterEqual"]);
const belowZero: ReadonlySet<Condition> = new Set(["less", "greaterEqual"]);
const uptoMinusOne: ReadonlySet<Condition> = new Set(["lessEqual", "greater"]);
const signs: ReadonlySet<Condition> = new Set(["negative", "notNegative"]);
const sizes: ReadonlySet<Condition> = new Set(["below", "belowEqual", "above", "aboveEqual"]);
/** Of an `int` and of a `long`. */
const signBits: ReadonlySet<bigint> = new Set([1n << 31n, 1n << 63n]);
const equalities: ReadonlySet<Condition> = new Set(["equal", "notEqual"]);

/**
 * Whether a test leaves no other reading than failure: what is zero or null may also be an answer, as "no" or "nothing";
 * what is negative is none.
 */
export function failsPlainly({ bits, mask, against, condition }: ValueTest): boolean {
  if (signs.has(condition)) return true;
  // Below zero or not: where zero is on the side of the negative ones, a positive one may be the failure.
  if (belowZero.has(condition)) return against === 0n;
  if (uptoMinusOne.has(condition)) return against === BigInt.asUintN(bits, statusFailure);
  if (!equalities.has(condition)) return false;
  return (mask !== null && signBits.has(mask)) || against === BigInt.asUintN(bits, statusFailure);
}

/** `isCode`: the value is compared with other constants too. */
export function failureValueOf({ bits, mask, against, condition }: ValueTest, isCode = false): bigint | null {
  if (signs.has(condition)) return statusFailure;
  if (orders.has(condition)) return statusFailure;
  // A count or a size: minus one would be the largest there is.
  if (sizes.has(condition)) return nothing;
  if (!equalities.has(condition)) return null;
  // AArch64 tells a negative number by a look at that one bit.
  if (mask !== null && signBits.has(mask)) return statusFailure;
  if (against === BigInt.asUintN(bits, statusFailure)) return statusFailure;
  // One bit of several: set in a value of all ones, so that says nothing of failure.
  if (mask !== null && mask !== BigInt.asUintN(bits, -1n)) return nothing;
  if (against !== 0n) return statusFailure;
  return isCode || bits === 32 || bits === 16 ? statusFailure : nothing;
}
