// SPDX-License-Identifier: Apache-2.0
/**
 * HTML as a value: `html` escapes everything that is put into it, unless that is HTML itself. The one way to make markup.
 *
 * Program names, paths, log lines and keys in a fault come from whoever attacks the guarded program. Attribute values must
 * be written in double quotes; there is no way to put text into a script, a style or a tag name.
 */

export class Html {
  constructor(readonly text: string) {}
}

export type Part = Html | string | number | bigint | null | undefined | false | readonly Part[];

export function html(parts: TemplateStringsArray, ...values: readonly Part[]): Html {
  let text = parts[0]!;
  for (const [index, value] of values.entries()) text += render(value) + parts[index + 1]!;
  return new Html(text);
}

export const nothing = new Html("");

/** What is between quotes or tags. Control characters are shown as such: they could hide or reorder text. */
export function escapeText(text: string): string {
  return text
    .replaceAll("&", "&amp;")
    .replaceAll("<", "&lt;")
    .replaceAll(">", "&gt;")
    .replaceAll('"', "&quot;")
    .replaceAll("'", "&#39;")
    .replaceAll("`", "&#96;")
    .replaceAll(hidden, (character) => `\\u{${character.codePointAt(0)!.toString(16)}}`);
}

/** Control characters but for tab and line feed, and the marks that change the direction of text. */
const hidden = /(?![\t\n])[\p{Cc}\u200e\u200f\u202a-\u202e\u2066-\u2069]/gu;

function render(value: Part): string {
  if (value instanceof Html) return value.text;
  if (value === null || value === undefined || value === false) return "";
  if (typeof value === "object") return value.map(render).join("");
  return escapeText(String(value));
}
