// SPDX-License-Identifier: Apache-2.0
/**
 * Reads `holdfast.toml`. Gets a path or a text; gives the Config, or every problem with its line and a suggestion.
 *
 * Limits: `fileBytesMax`, `problemsMax` problems reported. Source: TOML 1.0 as Bun parses it.
 */
import { readFileSync, statSync } from "node:fs";
import * as v from "valibot";
import { ConfigError } from "#errors.ts";
import { check } from "./check.ts";
import { type Config, configOf, documentSchema } from "./schema.ts";
import { suggest } from "./suggest.ts";
import { type KeyPath, lineOf, lineOfSyntaxError } from "./tomlLines.ts";

export const fileBytesMax = 1 << 20;
export const problemsMax = 50;

export type Problem = {
  readonly code: "config.syntax" | "config.unknownKey" | "config.value";
  readonly line: number;
  /** Dotted, `guest[1].memory`; "" for the whole document. */
  readonly key: string;
  readonly text: string;
};
export type Reading =
  | { readonly kind: "config"; readonly config: Config }
  | { readonly kind: "problems"; readonly problems: readonly Problem[] };

/** @throws ConfigError config.argument where the file cannot be read; else the code of its first problem */
export function loadConfig(path: string): Config {
  const reading = readConfig(readText(path));
  if (reading.kind === "config") return reading.config;
  const [first] = reading.problems;
  const more = reading.problems.length > 1 ? ` (and ${reading.problems.length - 1} more: holdfast validate)` : "";
  throw new ConfigError(first!.code, `${path}:${describeProblem(first!)}${more}`);
}

/** @throws ConfigError config.argument */
export function readText(path: string): string {
  try {
    const size = statSync(path).size;
    if (size <= fileBytesMax) return readFileSync(path, "utf8");
  } catch (cause) {
    throw new ConfigError("config.argument", `cannot read ${path}`, {}, cause);
  }
  throw new ConfigError("config.argument", `${path} has more than ${fileBytesMax} bytes: not a configuration`);
}

/** Total. Problems come in order of their lines. */
export function readConfig(text: string): Reading {
  let parsed: unknown;
  try {
    parsed = Bun.TOML.parse(text);
  } catch (error) {
    return { kind: "problems", problems: [syntaxProblem(text, error)] };
  }
  const result = v.safeParse(documentSchema, parsed);
  const problems = result.success
    ? check(result.output).map(({ path, text: what }) => problemAt(text, "config.value", path, what))
    : result.issues.map((issue) => issueProblem(text, issue));
  if (result.success && problems.length === 0) return { kind: "config", config: configOf(result.output) };
  problems.sort((a, b) => a.line - b.line);
  return { kind: "problems", problems: problems.slice(0, problemsMax) };
}

/** `LINE: KEY: what is wrong` */
export const describeProblem = ({ line, key, text }: Problem): string =>
  key === "" ? `${line}: ${text}` : `${line}: ${key}: ${text}`;

function syntaxProblem(text: string, error: unknown): Problem {
  const parses = (part: string): boolean => {
    try {
      Bun.TOML.parse(part);
      return true;
    } catch {
      return false;
    }
  };
  const message = error instanceof Error ? error.message.replace(/^TOML Parse error: /, "") : String(error);
  return { code: "config.syntax", line: lineOfSyntaxError(text, parses), key: "", text: message };
}

type Issue = v.BaseIssue<unknown>;

function issueProblem(text: string, issue: Issue): Problem {
  const path = (issue.path ?? []).map((item) => item.key as string | number);
  const unknown = issue.type === "strict_object" && issue.expected === "never";
  if (unknown) return problemAt(text, "config.unknownKey", path, unknownKey(path));
  if (issue.type === "strict_object" && issue.received === "undefined") {
    return problemAt(text, "config.value", path.slice(0, -1), `${String(path.at(-1))} is missing`);
  }
  return problemAt(text, "config.value", path, wanted(issue));
}

/** Our own messages begin with what is wanted; valibot's own are put into the same form. */
function wanted(issue: Issue): string {
  if (issue.message.startsWith("wants ")) return `${issue.message}; it is ${shown(issue.input)}`;
  return `wants ${(issue.expected ?? "another value").toLowerCase()}; it is ${shown(issue.input)}`;
}

const shown = (value: unknown): string => (JSON.stringify(value) ?? "nothing").slice(0, 60);

function problemAt(text: string, code: Problem["code"], path: KeyPath, what: string): Problem {
  return { code, line: lineOf(text, path), key: keyText(path), text: what };
}

/** `guest[0].memory`, counted from 0 as in every program. */
function keyText(path: KeyPath): string {
  return path.reduce<string>(
    (text, key) => (typeof key === "number" ? `${text}[${key}]` : text === "" ? key : `${text}.${key}`),
    "",
  );
}

function unknownKey(path: KeyPath): string {
  const nearest = suggest(String(path.at(-1)), keysAt(path.slice(0, -1)));
  return nearest === null ? "is no setting here" : `is no setting here; did you mean ${nearest}?`;
}

/** The settings that exist in the table at `path`. */
function keysAt(path: KeyPath): string[] {
  // biome-ignore lint/suspicious/noExplicitAny: schemas of valibot have no shape in common
  let schema: any = documentSchema;
  for (const key of path) {
    schema = inner(schema);
    schema = typeof key === "number" ? schema.item : schema.entries?.[key];
    if (schema === undefined) return [];
  }
  return Object.keys(inner(schema).entries ?? {});
}

// biome-ignore lint/suspicious/noExplicitAny: as above
function inner(schema: any): any {
  return schema.type === "optional" ? inner(schema.wrapped) : schema;
}
