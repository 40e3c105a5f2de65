// SPDX-License-Identifier: Apache-2.0
/**
 * DWARF expressions of call-frame information: values, unknown inputs, limits.
 */
import { expect, test } from "bun:test";
import { type ExpressionContext, evaluate } from "#binary/expression.ts";

const context: ExpressionContext = {
  registers: [0n, null, 2n, 3n, 4n, 5n, 6n, 0x1000n, 8n, 9n, 10n, 11n, 12n, 13n, 14n, 15n, 0x40100bn],
  readValue: (from, lengthBytes) => (from === 0x1008n && lengthBytes === 8 ? 0xdeadn : null),
  bias: 0x10000n,
};
const all = (1n << 64n) - 1n;

test.each([
  // The CFA of every x86-64 linkage stub: rsp + 8, and 8 more once the stub has pushed its index.
  ["linkage stub", [0x77, 8, 0x80, 0, 0x3f, 0x1a, 0x3b, 0x2a, 0x33, 0x24, 0x22], 0x1010n],
  ["dereference", [0x77, 8, 0x06], 0xdeadn],
  ["unmapped memory", [0x77, 16, 0x06], null],
  ["unknown register", [0x71, 0], null],
  ["address with bias", [0x03, 1, 0, 0, 0, 0, 0, 0, 0], 0x10001n],
  ["subtraction wraps", [0x31, 0x32, 0x1c], all],
  ["signed division", [0x09, 0xf8, 0x32, 0x1b], all - 3n],
  ["rotation", [0x31, 0x32, 0x33, 0x17, 0x1c], all],
  ["swap and drop", [0x31, 0x32, 0x16, 0x13], 2n],
  ["branch over", [0x35, 0x31, 0x28, 1, 0, 0x13], 5n],
  ["shift by 64", [0x31, 0x08, 64, 0x24], 0n],
])("%s", (_, code, expected) => {
  expect(evaluate(Uint8Array.from(code), null, context)).toBe(expected);
});

test.each([
  ["an endless loop", [0x2f, 0xfd, 0xff], "binary.limit"],
  ["a growing stack", [0x31, 0x2f, 0xfc, 0xff], "binary.limit"],
  ["an empty stack", [0x22], "binary.expression"],
  ["division by zero", [0x31, 0x30, 0x1b], "binary.expression"],
  ["a call to another entry", [0x98, 0, 0], "binary.expression"],
  ["a branch outside", [0x2f, 0x00, 0x10], "binary.expression"],
  ["a cut-off operand", [0x0e, 1, 2], "binary.ehFrame"],
])("%s is refused", (_, code, errorCode) => {
  const refused = expect(() => evaluate(Uint8Array.from(code), null, context));
  refused.toThrow(expect.objectContaining({ code: errorCode }));
});
