// SPDX-License-Identifier: Apache-2.0
/**
 * Rules about the shape of one file: header, length, functions, names, barrels.
 *
 * Limits are those of the house: 400 lines a file, 60 a function. A `describe` callback is a list of tests, not a function.
 */
import { eachMatch, type Finding, lineAt, type SourceFile } from "./source.ts";

const fileLinesMax = 400;
const functionLinesMax = 60;
const license = "SPDX-License-Identifier: Apache-2.0";

export function shapeRules(file: SourceFile): Finding[] {
  return [...headerRule(file), ...lengthRule(file), ...functionRule(file), ...nameRules(file), ...barrelRule(file)];
}

function headerRule({ path, text }: SourceFile): Finding[] {
  const lines = text.split("\n");
  const first = lines[0]?.startsWith("#!") ? 1 : 0;
  const at = (line: number, advice: string): Finding[] => [{ path, line, rule: "header", advice }];
  if (lines[first] !== `// ${license}`) return at(first + 1, `begin with "// ${license}"`);
  const comment = /^\/\*\*(?: (.*) \*\/\n|\n((?: \*.*\n)+?) \*\/\n)/.exec(`${lines.slice(first + 1).join("\n")}\n`);
  if (comment === null)
    return at(
      first + 2,
      "then a /** comment */ before the imports: one sentence, what it gets and gives, limits, source",
    );
  if ((comment[1] ?? comment[2]!).replaceAll(/[\s*]/g, "").length < 20)
    return at(first + 2, "the header comment says nothing yet");
  return [];
}

/** Launchers and the CI script: a shell line, then the licence. */
export function launcherRule({ path, text }: SourceFile): Finding[] {
  const lines = text.split("\n");
  if (!lines[0]?.startsWith("#!") || lines[1] === `# ${license}`) return [];
  return [{ path, line: 2, rule: "header", advice: `second line: "# ${license}"` }];
}

function lengthRule({ path, text }: SourceFile): Finding[] {
  const lines = text.trimEnd().split("\n").length;
  if (lines <= fileLinesMax) return [];
  return [
    { path, line: fileLinesMax, rule: "file-length", advice: `${lines} lines, at most ${fileLinesMax}: split by idea` },
  ];
}

function functionRule(file: SourceFile): Finding[] {
  return bodiesOf(file.code).flatMap(({ open, close }) => {
    const line = lineAt(file.text, open);
    const lines = lineAt(file.text, close) - line + 1;
    if (lines <= functionLinesMax || isTestGroup(file.code, open)) return [];
    const advice = `a function of ${lines} lines, at most ${functionLinesMax}: name its parts`;
    return [{ path: file.path, line, rule: "function-length", advice }];
  });
}

const isTestGroup = (code: string, open: number): boolean =>
  /\bdescribe(\.\w+(\([^()]*\))?)*\(\s*(["'`]\s*["'`]|[^()]*),\s*(async )?\(\) =>\s*$/.test(
    code.slice(Math.max(0, open - 240), open),
  );

/** Opening and closing brace of every function body. */
export function bodiesOf(code: string): { open: number; close: number }[] {
  const starts = /\bfunction\b\s*\*?\s*[\w$]*|(?<![\w$.])(?:#?[\w$]+|\[[\w$.]+\])(?=\s*(?:<[^<>()]*>)?\()|=>\s*(?=\{)/g;
  const bodies = new Map<number, number>();
  for (const match of code.matchAll(starts)) {
    if (/^(if|for|while|switch|catch|with|return|await|super)$/.test(match[0])) continue;
    const after = match.index + match[0].length;
    const open = match[0].startsWith("=>") ? after : bodyAfter(code, after);
    if (open !== null) bodies.set(open, closing(code, open));
  }
  return [...bodies].map(([open, close]) => ({ open, close }));
}

/** The body's brace after type parameters, parameters and return type; null where this is a call or a mere signature. */
function bodyAfter(code: string, from: number): number | null {
  const parameters = code.indexOf("(", from);
  if (parameters < 0) return null;
  let at = closing(code, parameters) + 1;
  const tail = /^\s*(:?)/.exec(code.slice(at))!;
  at += tail[0].length;
  if (tail[1] === "") return code[at] === "{" ? at : null;
  // In a type, a brace where an operand may stand opens an object type; where none may, it opens the body.
  for (let operand = true; at < code.length; at += 1) {
    const character = code[at]!;
    if (/[;,)\]}=?]/.test(character) && code.slice(at, at + 2) !== "=>") return null;
    if (character === "{" && !operand) return at;
    if ("{([".includes(character)) {
      at = closing(code, at);
      operand = false;
    } else if (/[|&<:]/.test(character) || code.slice(at - 1, at + 1) === "=>") operand = true;
    else if (/\S/.test(character))
      operand = /\b(is|asserts|keyof|readonly|typeof|extends)$/.test(code.slice(at - 9, at + 1));
  }
  return null;
}

const pairs: Readonly<Record<string, string>> = { "{": "}", "(": ")", "[": "]" };

function closing(code: string, open: number): number {
  const [opens, closes] = [code[open]!, pairs[code[open]!]!];
  let depth = 0;
  for (let at = open; at < code.length; at += 1) {
    if (code[at] === opens) depth += 1;
    else if (code[at] === closes && --depth === 0) return at;
  }
  return code.length - 1;
}

const emptyWords = new Set(["util", "utils", "helper", "helpers", "manager", "misc", "common", "base", "data", "info"]);

/** Words of a camelCase or PascalCase name, in lower case. */
const wordsOf = (name: string): string[] => name.split(/(?=[A-Z])|[^A-Za-z]+/).map((word) => word.toLowerCase());

function nameRules(file: SourceFile): Finding[] {
  const findings: Finding[] = [];
  const report = (line: number, name: string, word: string): void => {
    findings.push({ path: file.path, line, rule: "banned-name", advice: `"${name}" says "${word}": name what it is` });
  };
  for (const part of file.path.split("/").slice(1)) {
    const word = wordsOf(part.replace(/\..*/, "")).find((item) => emptyWords.has(item));
    if (word !== undefined) report(1, part, word);
  }
  const declared = /\b(function|class|interface|type|const|let|var)\s*\*?\s+([\w$]+)/g;
  for (const match of file.code.matchAll(declared)) {
    const [, kind, name] = match as unknown as [string, string, string];
    const line = lineAt(file.text, match.index);
    const word = wordsOf(name).find((item) => emptyWords.has(item) && !isManualWord(file.path, item));
    if (word !== undefined) report(line, name, word);
    if (/^handle([A-Z]|$)/.test(name) && (kind === "function" || isFunctionValue(file.code, match)))
      report(line, name, "handle");
  }
  return findings.concat(
    eachMatch(
      file,
      /^\s+(?:async )?#?handle[A-Z]\w*\([^()]*\)[^;{}]*\{/gm,
      "banned-name",
      () => "a method named after handling: say what it does",
    ),
  );
}

/** Words of the processor manuals and of DWARF: a base register, data processing, the data alignment factor. */
const isManualWord = (path: string, word: string): boolean => /^(base|data)$/.test(word) && /(^|\/)binary\//.test(path);

const isFunctionValue = (code: string, match: RegExpMatchArray): boolean =>
  /^\s*=\s*(async\s*)?\([^()]*\)[^=;]*=>/.test(code.slice(match.index! + match[0].length));

function barrelRule(file: SourceFile): Finding[] {
  const advice = (): string => "no barrels: import from the file that has it";
  if (/(^|\/)index\.tsx?$/.test(file.path)) return [{ path: file.path, line: 1, rule: "no-barrel", advice: advice() }];
  return eachMatch(file, /^export\s+(type\s+)?(\*|\{[^}]*\}\s*from\b)/gm, "no-barrel", advice);
}
