// SPDX-License-Identifier: Apache-2.0
/** Markup: whatever is put into it comes out as text. */
import { expect, test } from "bun:test";
import fc from "fast-check";
import { Html, html } from "#status/view/html.ts";

test("text that is put in cannot open a tag, close an attribute or start an entity", () => {
  fc.assert(
    fc.property(fc.string({ unit: "binary" }), (text) => {
      const made = html`<p title="${text}">${text}</p>`.text;
      const inner = made.slice('<p title="'.length, -"</p>".length);
      const [title, rest] = [inner.slice(0, inner.indexOf('"')), inner.slice(inner.indexOf('">') + 2)];
      expect(title).toBe(rest);
      expect(rest).not.toMatch(/[<>"'`]|&(?!(amp|lt|gt|quot|#39|#96);)/);
    }),
  );
});

test("HTML stays HTML, lists are joined, and what is nothing shows nothing", () => {
  expect(
    html`<ul>${(["<a>", null, false, undefined, 7] as const).map((item) => html`<li>${item}</li>`)}</ul>`.text,
  ).toBe("<ul><li>&lt;a&gt;</li><li></li><li></li><li></li><li>7</li></ul>");
  expect(html`${new Html("<b>")}`.text).toBe("<b>");
});

test("marks that hide text or turn its direction are shown as what they are", () => {
  expect(html`${"a\u202eb\u0000c"}`.text).toBe("a\\u{202e}b\\u{0}c");
});
