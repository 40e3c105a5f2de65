// SPDX-License-Identifier: Apache-2.0
/** Any bytes as code: nothing throws, every answer has its shape, and no call reads on for ever. */
import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { callBytesMax, instructionBytesMax, skipWrites, valueUsePathsMax } from "#binary/instructionSet.ts";
import { instructionsOf } from "#binary/instructions.ts";
import { followValue, type ValueStep } from "#binary/valueUse.ts";
import { stepAt, systemV } from "#binary/x86_64Value.ts";
import type { Architecture } from "#fault.ts";

const runs = 3_000;
const address = fc.bigInt({ min: 0n, max: 2n ** 64n - 1n });
const bytes = fc.uint8Array({ minLength: 0, maxLength: 64 });
/** Registers known or not, in any number. */
const registers = fc.array(fc.option(address, { nil: null }), { maxLength: 50 });

for (const architecture of ["x86_64", "aarch64"] as const satisfies readonly Architecture[]) {
  const set = instructionsOf(architecture);
  const registersMax = architecture === "x86_64" ? 49 : 31;

  describe(`${architecture}, any bytes`, () => {
    test("calls and values", () => {
      fc.assert(
        fc.property(bytes, address, fc.option(bytes, { nil: undefined }), (code, at, body) => {
          const site = set.callBefore(code, at, body);
          if (site.kind !== "none") {
            expect(site.lengthBytes).toBeGreaterThan(1);
            expect(site.lengthBytes).toBeLessThanOrEqual(body === undefined ? callBytesMax : instructionBytesMax);
          }
          expect(["tested", "used", "ignored", "unknown"]).toContain(set.afterCall(code, at));
          const use = set.valueUse(code, at, at - 7n);
          if (use.kind === "tested" && use.test !== null) expect(use.test.against).toBeGreaterThanOrEqual(0n);
          set.testOf(code, at);
        }),
        { numRuns: runs },
      );
    });

    test("faulting instructions", () => {
      fc.assert(
        fc.property(bytes, address, registers, fc.option(address, { nil: null }), (code, at, known, faultAddress) => {
          const { lengthBytes, skip, bytes: text } = set.faulting(code, at, { registers: known, faultAddress });
          expect(lengthBytes).toBe(set.length(code, at) ?? 0);
          if (lengthBytes > 0) expect(text.length).toBe(lengthBytes * 2);
          else expect(skip).toBeNull();
          for (const [register, value] of skip === null ? [] : skipWrites(skip)) {
            expect(register).toBeLessThanOrEqual(registersMax);
            expect(BigInt.asUintN(64, value)).toBe(value);
          }
          const operand = set.memoryOperand(code, at);
          if (operand !== null) expect(operand.bytes).toBeGreaterThanOrEqual(0);
          expect(set.format(code, at).length).toBeGreaterThan(0);
          expect(set.isPadding(code, at)).toBe(set.padding(code, at) !== null);
        }),
        { numRuns: runs },
      );
    });
  });
}

test("a loop of branches ends within the limits", () => {
  const jumpBack = new Uint8Array([0x74, 0xfe, 0x74, 0xfc, 0xeb, 0xfa]);
  let steps = 0;
  const counted = (at: bigint): ValueStep | null => {
    steps += 1;
    return stepAt(jumpBack, at, Number(at));
  };
  expect(followValue(counted, 0n, systemV).kind).toBe("unknown");
  expect(steps).toBeLessThanOrEqual(24 * valueUsePathsMax);
});
