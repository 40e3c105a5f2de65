// SPDX-License-Identifier: Apache-2.0
/**
 * Rules about imports: who may import whom, how, which packages, and that no chain of imports comes back.
 *
 * Edges are read from the text, since Bun's own import scanner drops type-only imports and a type import is an edge.
 */
import { type Finding, isTypeScript, lineAt, type SourceFile } from "./source.ts";
import { fences, mayImport, mayImportAnything, mayImportTypes, pureTrees, readsItsPackage, treeOf } from "./table.ts";

export type Import = {
  readonly specifier: string;
  readonly line: number;
  /** True where nothing of it is left when the program runs. */
  readonly typesOnly: boolean;
};

const importPattern =
  /(?:^|[;\s])(import|export)\s+(type\s+)?(?:[\w$*\s{},]+?\s*from\s*)?(["'])|\b(import|require)\s*\(\s*(["'])/gm;

/** Every import, re-export, `import()` and `require()` of a file, in order. */
export function importsOf(file: SourceFile): Import[] {
  return [...file.code.matchAll(importPattern)].map((match) => {
    const open = match.index + match[0].length;
    const specifier = file.text.slice(open, file.code.indexOf(match[3] ?? match[5]!, open));
    return { specifier, line: lineAt(file.text, open), typesOnly: match[2] !== undefined };
  });
}

/** The file of ours that an import names, or null for packages and built-in modules. */
export function targetOf(path: string, specifier: string): string | null {
  if (specifier.startsWith("#")) {
    const rest = specifier.slice(1);
    return /^(board|vm|image|tests|scripts)\//.test(rest) ? rest : `src/${rest}`;
  }
  if (!specifier.startsWith(".")) return null;
  const parts = path.split("/").slice(0, -1);
  for (const part of specifier.split("/")) {
    if (part === "..") parts.pop();
    else if (part !== ".") parts.push(part);
  }
  return parts.join("/");
}

export function importRules(file: SourceFile): Finding[] {
  return importsOf(file).flatMap((item) => {
    const at = (rule: string, advice: string): Finding[] => [{ path: file.path, line: item.line, rule, advice }];
    const target = targetOf(file.path, item.specifier);
    if (target === null) return fenceRule(file, item, at);
    return [...spellingRule(file, item, target, at), ...tableRule(file, item, target, at)];
  });
}

type At = (rule: string, advice: string) => Finding[];

function spellingRule(file: SourceFile, { specifier }: Import, target: string, at: At): Finding[] {
  if (!/\.\w+$/.test(specifier)) return at("import-spelling", `name the exact file: "${specifier}.ts"`);
  const from = treeOf(file.path);
  const same = from === treeOf(target);
  const alias = specifier.startsWith("#");
  if (!same && !alias) return at("import-spelling", `across trees import by alias: "#${target.replace(/^src\//, "")}"`);
  if (same && alias && from !== "tests")
    return at("import-spelling", `inside ${from} import by "./", not "${specifier}"`);
  return [];
}

function tableRule(file: SourceFile, { typesOnly }: Import, target: string, at: At): Finding[] {
  const from = treeOf(file.path);
  const to = treeOf(target);
  const allowed = mayImport[from];
  if (from === to || allowed === undefined || mayImportAnything(from) || allowed.includes(to)) return [];
  const types = mayImportTypes[from]?.includes(to) === true;
  if (types && typesOnly) return [];
  if (types) return at("import-table", `${from} may import only types of ${to}: write "import type"`);
  return at(
    "import-table",
    `${from} may not import ${to}; move the code, or change scripts/tidy/table.ts with the reason`,
  );
}

function fenceRule(file: SourceFile, { specifier }: Import, at: At): Finding[] {
  const tree = treeOf(file.path);
  const runtime = /^(node:|bun$|bun:)/.test(specifier);
  const isPure = pureTrees.includes(tree) && !readsItsPackage.includes(file.path);
  if (runtime && isPure) return at("package-fence", `${tree} is pure: no "${specifier}" there`);
  if (mayImportAnything(tree)) return [];
  const name = packageOf(specifier);
  const places = fences[name];
  if (places === undefined) {
    if (runtime) return [];
    return at(
      "package-fence",
      `"${name}" is not listed: say in ARCHITECTURE.md why we need it, then list it in scripts/tidy/table.ts`,
    );
  }
  if (
    places.some((place) => (/[/*]$/.test(place) ? file.path.startsWith(place.replace("*", "")) : file.path === place))
  )
    return [];
  return at("package-fence", `"${name}" belongs in ${places.length === 0 ? "tests" : places.join(", ")}`);
}

const packageOf = (specifier: string): string =>
  /^(node|bun):/.test(specifier)
    ? specifier
    : specifier
        .split("/")
        .slice(0, specifier.startsWith("@") ? 2 : 1)
        .join("/");

/** One finding for each ring of files that import one another, type imports included. */
export function cycleRule(files: readonly SourceFile[]): Finding[] {
  const known = new Map(files.filter((file) => isTypeScript(file.path)).map((file) => [file.path, file]));
  const done = new Set<string>();
  const findings: Finding[] = [];
  const visit = (path: string, chain: readonly string[]): void => {
    const start = chain.indexOf(path);
    if (start >= 0) {
      const ring = [...chain.slice(start), path];
      findings.push({
        path,
        line: 1,
        rule: "no-cycle",
        advice: `imports come back: ${ring.join(" > ")}; move what both need`,
      });
      return;
    }
    if (done.has(path)) return;
    const file = known.get(path);
    for (const item of file === undefined ? [] : importsOf(file)) {
      const target = targetOf(path, item.specifier);
      if (target !== null && known.has(target)) visit(target, [...chain, path]);
    }
    done.add(path);
  };
  for (const path of known.keys()) visit(path, []);
  return findings;
}
