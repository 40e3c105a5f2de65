// SPDX-License-Identifier: Apache-2.0
/**
 * `bun scripts/tidy.ts`: checks the rules of the house that a machine can check. Gets the files of the checkout; gives one line a finding (`file:line: rule: what to do`) and exit code 1, or the count of files and 0.
 *
 * The rules lie in scripts/tidy/, one file a kind, each with a failing example in tests/unit/scripts/.
 */
import type { Dirent } from "node:fs";
import { readdir } from "node:fs/promises";
import { cycleRule, importRules } from "./tidy/imports.ts";
import { launcherRule, shapeRules } from "./tidy/shape.ts";
import { type Finding, isGenerated, isTypeScript, type SourceFile, sourceFile } from "./tidy/source.ts";
import { sourceTrees, topLevel, vocabulary } from "./tidy/table.ts";
import { machineRules, wordRules } from "./tidy/words.ts";

/** Larger files are fixtures or assets; nobody wrote them by hand. */
const textBytesMax = 1 << 20;

/** All findings for a tree of files, in order of file and line. */
export function tidy(files: readonly SourceFile[]): Finding[] {
  const written = files.filter((file) => !isGenerated(file.path));
  const findings = [...layoutRules(files.map((file) => file.path)), ...cycleRule(written)];
  for (const file of written) {
    findings.push(...machineRules(file));
    if (isTypeScript(file.path)) findings.push(...importRules(file), ...shapeRules(file), ...wordRules(file));
    else findings.push(...launcherRule(file));
  }
  return findings.sort((a, b) => (a.path === b.path ? a.line - b.line : a.path < b.path ? -1 : 1));
}

function layoutRules(paths: readonly string[]): Finding[] {
  return paths.flatMap((path) => {
    const [top, second, third] = path.split("/");
    const at = (advice: string): Finding[] => [{ path, line: 1, rule: "layout", advice }];
    if (!topLevel.includes(top!)) return at(`"${top}" does not belong at the top; see scripts/tidy/table.ts`);
    if (top !== "src") return [];
    if (third === undefined) {
      const name = second!.replace(/\.ts$/, "");
      return vocabulary.includes(name) ? [] : at(`src/*.ts is a closed list: ${vocabulary.join(" ")}`);
    }
    return sourceTrees.includes(second!) ? [] : at(`src/${second}/ is not a module: ${sourceTrees.join(" ")}`);
  });
}

/** What lies in a checkout but is not of it: written by git, by the package manager, by runs. */
const notOurs = /^(\.git|node_modules|\.cache)$|\.log$/;

/** Every text file of the checkout. It walks instead of asking git, so that a tree without git is checked too. */
export async function readTree(top: string): Promise<SourceFile[]> {
  const entries = await readdir(top, { withFileTypes: true });
  const kept = entries.filter((entry) => !notOurs.test(entry.name));
  const files = await Promise.all(kept.map((entry) => readEntry(top, entry)));
  return files.flat();
}

async function readEntry(top: string, entry: Dirent, folder = ""): Promise<SourceFile[]> {
  const path = `${folder}${entry.name}`;
  if (entry.isDirectory()) {
    const entries = await readdir(`${top}/${path}`, { withFileTypes: true });
    return (await Promise.all(entries.map((inner) => readEntry(top, inner, `${path}/`)))).flat();
  }
  const file = Bun.file(`${top}/${path}`);
  if (!entry.isFile() || file.size > textBytesMax) return [];
  const bytes = await file.bytes();
  return bytes.includes(0) ? [] : [sourceFile(path, new TextDecoder().decode(bytes))];
}

if (import.meta.main) {
  const files = await readTree(`${import.meta.dir}/..`);
  const findings = tidy(files);
  for (const { path, line, rule, advice } of findings) console.log(`${path}:${line}: ${rule}: ${advice}`);
  console.log(`tidy: ${files.length} files, ${findings.length} findings`);
  process.exit(findings.length === 0 && files.length > 0 ? 0 : 1);
}
