// SPDX-License-Identifier: Apache-2.0
/**
 * Finds the line where a key of a TOML document stands. Gets the text and a path of keys; gives a line counted from 1.
 *
 * Bun's parser gives values without places, and for an error only its message. This reads just enough of the text:
 * headers, keys before `=`, and keys inside inline tables and arrays. A key that cannot be found is answered with the
 * line of the nearest one around it. Only for documents that Bun has parsed. Source: TOML 1.0.
 */

export type KeyPath = readonly (string | number)[];

/** Line of the key at `path`, or of the innermost table around it that was found; 1 at worst. */
export function lineOf(text: string, path: KeyPath): number {
  let best = { depth: 0, line: 1 };
  for (const place of placesOf(text)) {
    const depth = sharedDepth(place.path, path);
    // The first place of a path is where it begins; deeper ones are nearer.
    if (depth === place.path.length && depth > best.depth) best = { depth, line: place.line };
  }
  return best.line;
}

/** The line where parsing stops making sense: after the last line up to which the document still parses. */
export function lineOfSyntaxError(text: string, parses: (text: string) => boolean): number {
  const lines = text.split("\n");
  let good = lines.length - 1;
  while (good > 0 && !parses(lines.slice(0, good).join("\n"))) good -= 1;
  let line = good;
  while (line < lines.length - 1 && /^\s*(#.*)?$/.test(lines[line]!)) line += 1;
  return line + 1;
}

type Place = { readonly path: KeyPath; readonly line: number };

function sharedDepth(a: KeyPath, b: KeyPath): number {
  let depth = 0;
  while (depth < a.length && depth < b.length && a[depth] === b[depth]) depth += 1;
  return depth;
}

function placesOf(text: string): Place[] {
  const reader = new Reader(text);
  const places: Place[] = [];
  const counts = new Map<string, number>();
  let table: KeyPath = [];
  for (reader.skipBlank(); !reader.done; reader.skipBlank()) {
    const line = reader.line;
    if (reader.peek() === "[") {
      const array = reader.text.startsWith("[[", reader.at);
      reader.at += array ? 2 : 1;
      table = resolve(reader.keys(), array, counts);
      reader.toLineEnd();
      places.push({ path: table, line });
    } else {
      readPair(reader, table, places);
      reader.toLineEnd();
    }
  }
  return places;
}

/** A header's keys with the index of the array element that each array of tables has reached. */
function resolve(keys: readonly string[], array: boolean, counts: Map<string, number>): KeyPath {
  const path: (string | number)[] = [];
  for (const [index, key] of keys.entries()) {
    path.push(key);
    const name = JSON.stringify(path);
    if (array && index === keys.length - 1) counts.set(name, (counts.get(name) ?? -1) + 1);
    const count = counts.get(name);
    if (count !== undefined) path.push(count);
  }
  return path;
}

function readPair(reader: Reader, table: KeyPath, places: Place[]): void {
  const { line, at } = reader;
  const keys = reader.keys();
  for (let length = 1; length <= keys.length; length += 1) {
    places.push({ path: [...table, ...keys.slice(0, length)], line });
  }
  reader.skipSpace();
  if (reader.peek() === "=") reader.at += 1;
  // Not a pair after all: go on, for the document was parsed and only a place is lost.
  else if (reader.at === at) reader.at += 1;
  reader.skipSpace();
  readValue(reader, [...table, ...keys], places);
}

function readValue(reader: Reader, path: KeyPath, places: Place[]): void {
  const first = reader.peek();
  if (first === "{") readList(reader, "}", () => readPair(reader, path, places));
  else if (first === "[") {
    let index = 0;
    readList(reader, "]", () => {
      places.push({ path: [...path, index], line: reader.line });
      readValue(reader, [...path, index], places);
      index += 1;
    });
  } else if (first === '"' || first === "'") reader.string();
  else while (!reader.done && !/[,\]}#\n]/.test(reader.peek())) reader.at += 1;
}

function readList(reader: Reader, close: string, item: () => void): void {
  reader.at += 1;
  for (reader.skipBlank(); !reader.done && reader.peek() !== close; reader.skipBlank()) {
    const before = reader.at;
    item();
    reader.skipBlank();
    if (reader.peek() === "," || reader.at === before) reader.at += 1;
  }
  reader.at += 1;
}

class Reader {
  at = 0;

  constructor(readonly text: string) {}

  get done(): boolean {
    return this.at >= this.text.length;
  }

  get line(): number {
    let count = 1;
    for (
      let index = this.text.indexOf("\n");
      index >= 0 && index < this.at;
      index = this.text.indexOf("\n", index + 1)
    ) {
      count += 1;
    }
    return count;
  }

  peek(): string {
    return this.text[this.at] ?? "";
  }

  skipSpace(): void {
    while (/[ \t\r]/.test(this.peek())) this.at += 1;
  }

  /** Spaces, line ends and comments. */
  skipBlank(): void {
    while (!this.done) {
      if (this.peek() === "#") this.toLineEnd();
      else if (/\s/.test(this.peek())) this.at += 1;
      else return;
    }
  }

  toLineEnd(): void {
    while (!this.done && this.peek() !== "\n") this.at += 1;
  }

  /** Dotted keys: bare, or in quotes. */
  keys(): string[] {
    const keys: string[] = [];
    for (;;) {
      this.skipSpace();
      keys.push(/["']/.test(this.peek()) ? this.string() : this.bare());
      this.skipSpace();
      if (this.peek() !== ".") return keys;
      this.at += 1;
    }
  }

  bare(): string {
    const from = this.at;
    while (/[A-Za-z0-9_-]/.test(this.peek())) this.at += 1;
    return this.text.slice(from, this.at);
  }

  /** A string of any of the four kinds; escapes stay as they are, which is right for keys that need none. */
  string(): string {
    const quote = this.peek();
    const long = this.text.startsWith(quote.repeat(3), this.at);
    const end = long ? quote.repeat(3) : quote;
    this.at += end.length;
    const from = this.at;
    while (!this.done && !this.text.startsWith(end, this.at)) this.at += quote === '"' && this.peek() === "\\" ? 2 : 1;
    const inside = this.text.slice(from, this.at);
    this.at += end.length;
    // A long string may end in one or two quotes of its own.
    while (long && this.peek() === quote) this.at += 1;
    return inside;
  }
}
