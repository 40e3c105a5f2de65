// SPDX-License-Identifier: Apache-2.0
/**
 * A source file as the rules see it: its text, and its code with comments, strings and regular expressions blanked out.
 *
 * Blanks keep every offset and line, so a match in `code` is found at the same place in `text`. This is a scanner, not a
 * parser: it tells a regular expression from a division by the token before it, which holds for formatted code.
 */

export type SourceFile = {
  /** Path from the top of the checkout, with `/`. */
  readonly path: string;
  readonly text: string;
  /** `text` with the insides of comments, strings, templates and regular expressions replaced by spaces. */
  readonly code: string;
};

/** One broken rule: where, which, and what to do about it. */
export type Finding = {
  readonly path: string;
  readonly line: number;
  readonly rule: string;
  readonly advice: string;
};

export const isTypeScript = (path: string): boolean => /\.tsx?$/.test(path);
export const isGenerated = (path: string): boolean => path.endsWith(".gen.ts");

export const sourceFile = (path: string, text: string): SourceFile => ({
  path,
  text,
  code: isTypeScript(path) ? blank(text) : text,
});

export function lineAt(text: string, offset: number): number {
  let line = 1;
  for (let at = text.indexOf("\n"); at >= 0 && at < offset; at = text.indexOf("\n", at + 1)) line += 1;
  return line;
}

/** A finding for each match of `pattern` in the code of `file`. */
export function eachMatch(
  file: SourceFile,
  pattern: RegExp,
  rule: string,
  advice: (found: string) => string,
): Finding[] {
  return [...file.code.matchAll(pattern)].map((match) => ({
    path: file.path,
    line: lineAt(file.text, match.index + match[0].search(/\S/)),
    rule,
    advice: advice(match[0]),
  }));
}

/** Replaces all that is not code by spaces; quotes stay, so that a string is still seen as one. */
export function blank(text: string): string {
  const out = text.split("");
  const erase = (from: number, to: number): void => {
    for (let at = from; at < to; at += 1) if (out[at] !== "\n") out[at] = " ";
  };
  /** Depth of braces inside each open `${` of a template. */
  const templates: number[] = [];
  let at = 0;
  while (at < text.length) {
    const end = tokenEnd(text, at, templates);
    const { inner } = end;
    if (inner !== null) erase(inner[0], inner[1]);
    at = end.at;
  }
  return out.join("");
}

type Token = { readonly at: number; readonly inner: readonly [number, number] | null };

function tokenEnd(text: string, at: number, templates: number[]): Token {
  const two = text.slice(at, at + 2);
  const character = text[at]!;
  if (two === "//" || (at === 0 && two === "#!")) return whole(at, indexOrEnd(text, "\n", at));
  if (two === "/*") return whole(at, indexOrEnd(text, "*/", at + 2) + 2);
  if (character === '"' || character === "'") return quoted(at, stringEnd(text, at));
  if (character === "`") return template(text, at, templates);
  if (character === "}" && templates.at(-1) === 0) {
    templates.pop();
    return template(text, at, templates);
  }
  if (templates.length > 0 && (character === "{" || character === "}")) {
    templates[templates.length - 1]! += character === "{" ? 1 : -1;
  }
  if (character === "/" && startsRegex(text, at)) return quoted(at, regexEnd(text, at));
  return { at: at + 1, inner: null };
}

const whole = (from: number, to: number): Token => ({ at: to, inner: [from, to] });
const quoted = (from: number, to: number): Token => ({ at: to, inner: [from + 1, Math.max(from + 1, to - 1)] });

/** From a backtick, or from the brace that ends a `${…}`, to the next backtick or `${`. */
function template(text: string, from: number, templates: number[]): Token {
  for (let at = from + 1; at < text.length; at += 1) {
    if (text[at] === "\\") at += 1;
    else if (text[at] === "`") return quoted(from, at + 1);
    else if (text[at] === "$" && text[at + 1] === "{") {
      templates.push(0);
      return { at: at + 2, inner: [from + 1, at] };
    }
  }
  return whole(from, text.length);
}

function stringEnd(text: string, from: number): number {
  for (let at = from + 1; at < text.length; at += 1) {
    if (text[at] === "\\") at += 1;
    else if (text[at] === text[from] || text[at] === "\n") return at + 1;
  }
  return text.length;
}

function regexEnd(text: string, from: number): number {
  let inClass = false;
  for (let at = from + 1; at < text.length && text[at] !== "\n"; at += 1) {
    const character = text[at];
    if (character === "\\") at += 1;
    else if (character === "[") inClass = true;
    else if (character === "]") inClass = false;
    else if (character === "/" && !inClass) return at + 1;
  }
  return from + 1;
}

function startsRegex(text: string, at: number): boolean {
  const before = text.slice(Math.max(0, at - 40), at).trimEnd();
  if (before === "") return true;
  return /[(,=:[!&|?{};+~<>^%]$/.test(before) || /\b(return|case|typeof|in|of|do|else|await|yield)$/.test(before);
}

function indexOrEnd(text: string, needle: string, from: number): number {
  const found = text.indexOf(needle, from);
  return found < 0 ? text.length : found;
}
