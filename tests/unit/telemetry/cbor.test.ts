// SPDX-License-Identifier: Apache-2.0
/** The CBOR profile: whatever we write we read back, always in the shortest sorted form, and any bytes are survived. */
import { expect, test } from "bun:test";
import fc from "fast-check";
import { TelemetryError } from "#errors.ts";
import { type CborValue, decodeCbor, encodeCbor } from "#telemetry/cbor.ts";
import { long } from "#tests/skip.ts";

const leaf = fc.oneof(
  fc.constant(null),
  fc.boolean(),
  fc.maxSafeInteger(),
  fc.bigInt({ min: -(2n ** 63n), max: 2n ** 64n - 1n }),
  fc.double({ noNaN: true }),
  fc.string({ unit: "binary" }),
  fc.uint8Array({ maxLength: 300 }),
);
const { tree } = fc.letrec<{ tree: CborValue }>((tie) => ({
  tree: fc.oneof(
    { maxDepth: 4, withCrossShrink: true },
    leaf,
    fc.array(tie("tree"), { maxLength: 6 }),
    fc.dictionary(fc.string({ unit: "grapheme" }), tie("tree"), { maxKeys: 30, noNullPrototype: true }),
    fc
      .uniqueArray(fc.integer({ min: -40, max: 40 }), { minLength: 1, maxLength: 6 })
      .map((keys) => new Map(keys.map((key) => [key, `value ${key}`]))),
  ),
}));

/** Equal but for what the wire does not tell: 5n and 5, -0 and 0, key order. */
function normal(value: CborValue): unknown {
  if (typeof value === "bigint") return Number.isSafeInteger(Number(value)) ? Number(value) : value;
  if (Object.is(value, -0)) return 0;
  if (typeof value !== "object" || value === null || value instanceof Uint8Array) return value;
  if (Array.isArray(value)) return value.map(normal);
  const entries = value instanceof Map ? [...value] : Object.entries(value);
  return new Map(
    entries.map(([key, item]) => [String(key), normal(item)] as const).sort(([a], [b]) => (a < b ? -1 : 1)),
  );
}

test("what is encoded is in the profile and reads back", () => {
  fc.assert(
    fc.property(tree, (value) => {
      const decoded = decodeCbor(encodeCbor(value), 1_000_000);
      expect(normal(decoded)).toEqual(normal(value));
      expect(encodeCbor(decoded)).toEqual(encodeCbor(value));
    }),
    { numRuns: long("fuzz") ? 200_000 : 2000, verbose: true },
  );
});

test("any bytes give a value or a typed error", () => {
  const bytes = fc.oneof(
    fc.uint8Array({ maxLength: 64 }),
    fc.tuple(tree, fc.nat(), fc.nat(255)).map(([value, at, byte]) => {
      const encoded = encodeCbor(value);
      encoded[at % encoded.length] = byte;
      return encoded;
    }),
  );
  fc.assert(
    fc.property(bytes, (input) => {
      try {
        const value = decodeCbor(input, 4096);
        // Whatever was accepted can be said again, and means the same.
        expect(normal(decodeCbor(encodeCbor(value), 8192))).toEqual(normal(value));
      } catch (error) {
        if (!(error instanceof TelemetryError)) throw error;
      }
    }),
    { numRuns: long("fuzz") ? 500_000 : 5000, verbose: true },
  );
});

test("a hostile length or depth costs nothing", () => {
  const deep = new Uint8Array(60_000).fill(0x81);
  const wide = new Uint8Array([0x9a, 0xff, 0xff, 0xff, 0xff, ...new Uint8Array(1000)]);
  for (const bytes of [deep, wide]) expect(() => decodeCbor(bytes, 65_536)).toThrow(TelemetryError);
  expect(() => decodeCbor(new Uint8Array(65_537), 65_536)).toThrow("too large");
});

test("a key called __proto__ is a key", () => {
  const value = decodeCbor(encodeCbor(JSON.parse('{"__proto__":{"admin":true}}')), 100) as Record<string, unknown>;
  expect(Object.getPrototypeOf(value)).toBeNull();
  expect(({} as { admin?: boolean }).admin).toBeUndefined();
});
