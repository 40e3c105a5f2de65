// SPDX-License-Identifier: Apache-2.0
/**
 * Lines of keys: documents are written from a model that knows every line, then asked for each key.
 */
import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { type KeyPath, lineOf } from "#config/tomlLines.ts";

const key = fc.stringMatching(/^[a-z][a-z0-9_-]{0,5}$/);
/** Values that span lines, hold brackets, hashes and quotes. */
const value = fc.constantFrom(
  "1",
  "true",
  '"a # b ] } \\" ="',
  "'it = [x]'",
  '"""two\n[[lines]] = 1\n"""',
  "'''three\n'' x\n'''",
  "[1, 2,\n  3, # [[no]]\n]",
  '[ "a]", "b" ]',
  "1979-05-27T07:32:00Z",
);
const pair = fc.record({ key, value, comment: fc.constantFrom("", " # x = 1", "\n\n# [t]") });
const table = fc.record({
  name: key,
  array: fc.boolean(),
  pairs: fc.uniqueArray(pair, { selector: (item) => item.key, maxLength: 4 }),
});

type Written = { readonly text: string; readonly lines: readonly { readonly path: KeyPath; readonly line: number }[] };

function write(tables: readonly (typeof table extends fc.Arbitrary<infer T> ? T : never)[]): Written {
  const lines: { path: KeyPath; line: number }[] = [];
  let text = "";
  const counts = new Map<string, number>();
  const here = (): number => text.split("\n").length;
  for (const { name, array, pairs } of tables) {
    const index = counts.get(name) ?? 0;
    counts.set(name, index + 1);
    const path: KeyPath = array ? [name, index] : [name];
    lines.push({ path, line: here() });
    text += array ? `[[ ${name} ]]\n` : `[${name}] # c\n`;
    for (const { key: word, value: written, comment } of pairs) {
      lines.push({ path: [...path, word], line: here() });
      text += `  ${word} = ${written}${comment}\n`;
    }
  }
  return { text, lines };
}

describe("lines of keys", () => {
  test("every key of every generated document", () => {
    const documents = fc
      .array(table, { maxLength: 6 })
      .filter((tables) =>
        tables.every((a, i) => tables.every((b, j) => i === j || a.name !== b.name || (a.array && b.array))),
      );
    fc.assert(
      fc.property(documents, (tables) => {
        const { text, lines } = write(tables);
        expect(() => Bun.TOML.parse(text)).not.toThrow();
        for (const { path, line } of lines) expect({ path, line: lineOf(text, path) }).toEqual({ path, line });
      }),
      { numRuns: 500 },
    );
  });

  test("nested tables, dotted and quoted keys, inline tables", () => {
    const text =
      '[[g]]\nn.m = 1\n"q k" = 2\n[[g.p]]\nx = { a = 1, b = [ { c = 2 },\n { d = 3 } ] }\n[[g]]\n[[g.p]]\ny = 1\n';
    expect(lineOf(text, ["g", 0, "n", "m"])).toBe(2);
    expect(lineOf(text, ["g", 0, "q k"])).toBe(3);
    expect(lineOf(text, ["g", 0, "p", 0, "x", "b", 1, "d"])).toBe(6);
    expect(lineOf(text, ["g", 1, "p", 0, "y"])).toBe(9);
  });

  test("a key that is not there has the line of what is around it", () => {
    expect(lineOf("[a]\nb = 1\n[c]\n", ["c", "none"])).toBe(3);
    expect(lineOf("", ["x"])).toBe(1);
  });

  test("ends on any text", () => {
    fc.assert(
      fc.property(fc.string({ unit: fc.constantFrom(..."[]{}=,.#\"' \nab\\") }), (text) => {
        expect(lineOf(text, ["a", "b"])).toBeGreaterThan(0);
      }),
      { numRuns: 3_000 },
    );
  });
});
