// SPDX-License-Identifier: Apache-2.0
/**
 * Results and status flags of x86-64 integer arithmetic, for completing a faulting instruction by hand.
 *
 * Source: Intel SDM volume 1, 3.4.3.1, and volume 2 for each instruction. Checked on the processor itself by
 * tests/real/x86_64Skip.test.ts.
 */

export const carry = 0x1n;
export const parity = 0x4n;
export const adjust = 0x10n;
export const zero = 0x40n;
export const sign = 0x80n;
export const overflow = 0x800n;
export const statusFlags = carry | parity | adjust | zero | sign | overflow;

export type Arithmetic = { readonly result: bigint; readonly flags: bigint };

/** zero, sign and parity of a result. */
export function resultFlags(result: bigint, bits: number): bigint {
  const value = BigInt.asUintN(bits, result);
  let flags = value === 0n ? zero : 0n;
  if (value >> BigInt(bits - 1) === 1n) flags |= sign;
  let low = Number(value & 0xffn);
  low ^= low >> 4;
  low ^= low >> 2;
  low ^= low >> 1;
  return (low & 1) === 0 ? flags | parity : flags;
}

export function add(left: bigint, right: bigint, bits: number, carryIn = 0n): Arithmetic {
  const one = BigInt.asUintN(bits, left);
  const other = BigInt.asUintN(bits, right);
  const sum = one + other + carryIn;
  const result = BigInt.asUintN(bits, sum);
  let flags = resultFlags(result, bits);
  if (sum !== result) flags |= carry;
  if (((one ^ result) & (other ^ result)) >> BigInt(bits - 1) === 1n) flags |= overflow;
  if (((one ^ other ^ result) & adjust) !== 0n) flags |= adjust;
  return { result, flags };
}

export function subtract(left: bigint, right: bigint, bits: number, borrowIn = 0n): Arithmetic {
  const one = BigInt.asUintN(bits, left);
  const other = BigInt.asUintN(bits, right);
  const result = BigInt.asUintN(bits, one - other - borrowIn);
  let flags = resultFlags(result, bits);
  if (one < other + borrowIn) flags |= carry;
  if (((one ^ other) & (one ^ result)) >> BigInt(bits - 1) === 1n) flags |= overflow;
  if (((one ^ other ^ result) & adjust) !== 0n) flags |= adjust;
  return { result, flags };
}

/** AND, OR, XOR, TEST: carry and overflow are cleared; adjust is undefined and cleared by all processors seen. */
export function logic(result: bigint, bits: number): Arithmetic {
  return { result: BigInt.asUintN(bits, result), flags: resultFlags(result, bits) };
}
