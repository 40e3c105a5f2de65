// SPDX-License-Identifier: Apache-2.0
/**
 * Which frame a thread goes round in, from several looks at its stack.
 */
import { expect, test } from "bun:test";
import { address } from "#fault.ts";
import { loopFrame, type StackLook } from "#monitor/loopFrame.ts";

type Row = readonly [name: number, cfa: number, pc: number];
/** Innermost first; the last frame is the spine. */
const look = (...rows: readonly Row[]): StackLook => ({
  frames: rows.map(([name, cfa, pc]) => ({
    ...{ cfa: address(BigInt(cfa)), pc: address(BigInt(pc)), isPart: false },
    function: name === 0 ? null : address(BigInt(name)),
  })),
  spine: rows.length - 1,
});
const [spine, request] = [[9, 900, 99] as const, [5, 800, 55] as const];

test("the innermost frame that stays, whatever it calls", () => {
  const looks = [
    look([1, 600, 11], [4, 700, 41], request, spine),
    look([2, 620, 21], [4, 700, 42], request, spine),
    look([4, 700, 43], request, spine),
  ];
  expect(loopFrame(looks)).toBe(address(700n));
});

test("a thread that gets on is left alone", () => {
  const moved = [5, 800, 56] as const;
  expect(loopFrame([look([4, 700, 41], request, spine), look([4, 700, 41], moved, spine)])).toBeNull();
  expect(loopFrame([look([4, 700, 41], request, spine), look(spine)])).toBeNull();
  expect(loopFrame([look([4, 700, 41], request, spine), look([3, 690, 41], [6, 800, 61], spine)])).toBeNull();
});

test("nothing is said of one look, of code that is not known, or without a spine", () => {
  const twice = (one: StackLook) => [one, one];
  expect(loopFrame([look(request, spine)])).toBeNull();
  expect(loopFrame(twice(look([0, 700, 41], request, spine)))).toBeNull();
  expect(loopFrame(twice({ ...look(request, spine), spine: null }))).toBeNull();
  expect(loopFrame(twice(look(request, spine)))).toBe(address(800n));
});
