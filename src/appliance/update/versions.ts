// SPDX-License-Identifier: Apache-2.0
/**
 * Which of two versions is the newer one. Pure. Parts are split at every sign and at every change between digits and letters;
 * numbers count as numbers and are newer than words; `~` goes before the end, as in Debian: 1.0~rc1 is older than 1.0.
 */

/** Negative where `a` is older, 0 where they are alike. */
export function compareVersions(a: string, b: string): number {
  const [left, right] = [partsOf(a), partsOf(b)];
  for (let index = 0; index < Math.max(left.length, right.length); index += 1) {
    const order = compareParts(left[index], right[index]);
    if (order !== 0) return order;
  }
  return 0;
}

const partsOf = (version: string): string[] => version.match(/\d+|[A-Za-z]+|~/g) ?? [];

function compareParts(a: string | undefined, b: string | undefined): number {
  if (a === b) return 0;
  if (a === "~") return -1;
  if (b === "~") return 1;
  if (a === undefined) return -1;
  if (b === undefined) return 1;
  const [isNumber, isOtherNumber] = [/^\d/.test(a), /^\d/.test(b)];
  if (isNumber !== isOtherNumber) return isNumber ? 1 : -1;
  if (!isNumber) return a < b ? -1 : 1;
  const order = BigInt(a) - BigInt(b);
  return order === 0n ? 0 : order < 0n ? -1 : 1;
}
