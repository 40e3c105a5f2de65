// SPDX-License-Identifier: Apache-2.0
/**
 * Register changes of each kind of edit, against what an ordinary return would leave behind.
 */
import { expect, test } from "bun:test";
import { registerChanges } from "#suppression/apply.ts";
import { report } from "../reports.ts";

test("an abandoned frame looks returned from: caller's registers, stack above the frame, the value", () => {
  const fault = report([{ name: "a" }, { name: "b", by: "pointer" }, { name: "c" }, { name: "main" }]);
  const changes = registerChanges(fault, { kind: "abandon", rung: "abandon", point: { frame: 1, returnValue: -1n } });
  expect(changes.get(0)).toBe(0xffff_ffff_ffff_ffffn);
  expect(changes.get(7)).toBe(fault.frames[1]!.cfa!);
  expect(changes.get(16)).toBe(fault.frames[2]!.pc);
  for (const register of [3, 6, 12, 13, 14, 15]) expect(changes.get(register)).toBe(BigInt(3000 + register));
  expect(changes.size).toBe(9);
});

test("a neutralised load gives zero and the program counter moves past it", () => {
  const fault = report([{ name: "a" }, { name: "main" }]);
  const zero = registerChanges(fault, { kind: "neutralise", skip: { kind: "zero", registers: [2] }, lengthBytes: 7 });
  expect(zero).toEqual(
    new Map([
      [16, fault.registers[16]! + 7n],
      [2, 0n],
    ]),
  );
  const drop = registerChanges(fault, { kind: "neutralise", skip: { kind: "drop" }, lengthBytes: 3 });
  expect(drop).toEqual(new Map([[16, fault.registers[16]! + 3n]]));
});
