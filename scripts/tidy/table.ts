// SPDX-License-Identifier: Apache-2.0
/**
 * What may lie where and what may import what: the tables behind the tidy rules, and the only place to change them.
 *
 * ARCHITECTURE.md shows the same tables to people. To add an edge, change it here first and give the reason there.
 */

/** Everything that may lie at the top of the checkout. */
export const topLevel: readonly string[] = [
  ".ci",
  ".gitignore",
  "ARCHITECTURE.md",
  "CHANGELOG.md",
  "LICENSE",
  "README.md",
  "board",
  "bun.lock",
  "bunfig.toml",
  "image",
  "package.json",
  "scripts",
  "src",
  "tests",
  "tsconfig.json",
  "vm",
];

/** The shared vocabulary: `src/NAME.ts`, a closed list. */
export const vocabulary: readonly string[] = [
  "fault",
  "errors",
  "clock",
  "bytes",
  "log",
  "tasks",
  "machine",
  "verbs",
  "metrics",
  "health",
  "mailbox",
];

/** Folders of `src/`, a closed list. */
export const sourceTrees: readonly string[] = [
  "appliance",
  "binary",
  "cli",
  "config",
  "monitor",
  "restoration",
  "status",
  "storage",
  "suppression",
  "telemetry",
];

/** Folders whose name sets them apart from the tree they lie in. */
const subtrees: readonly string[] = ["scripts/bench", "scripts/fleet", "scripts/lab"];

/** The tree a file belongs to: `src` for the vocabulary, `src/monitor`, `board`, `scripts/bench`, … */
export function treeOf(path: string): string {
  const parts = path.split("/");
  const two = parts.slice(0, 2).join("/");
  if (parts[0] === "src") return parts.length === 2 ? "src" : two;
  return subtrees.includes(two) ? two : parts[0]!;
}

const anything = "anything";
const modules = ["src/binary", "src/storage", "board", "vm", "src/suppression", "src/monitor", "src/restoration"];
const outlets = ["src/telemetry", "src/status", "src/config"];

/** Tree to the other trees of ours that it may import. */
export const mayImport: Readonly<Record<string, readonly string[] | typeof anything>> = {
  src: [],
  board: ["src"],
  "src/binary": ["src"],
  "src/storage": ["src"],
  vm: ["src", "board"],
  "src/suppression": ["src", "src/binary"],
  "src/monitor": ["src", "src/binary", "board", "vm"],
  "src/restoration": ["src", "board", "vm", "src/storage"],
  "src/telemetry": ["src", "src/storage"],
  "src/status": ["src", "src/storage"],
  "src/config": ["src"],
  "src/appliance": ["src", ...modules, ...outlets],
  "src/cli": ["src", "src/appliance", "src/config", "src/storage", "src/telemetry"],
  image: ["src"],
  // The guest kit is packed from the list that the image installs.
  scripts: ["src", "image"],
  "scripts/bench": anything,
  "scripts/fleet": anything,
  "scripts/lab": anything,
  tests: anything,
};

/** Tree to the trees of which it may import types, and types only. */
export const mayImportTypes: Readonly<Record<string, readonly string[]>> = {
  "src/config": [...modules, "src/telemetry", "src/status"],
};

export const mayImportAnything = (tree: string): boolean => mayImport[tree] === anything;

/**
 * Package (or built-in module) to the folders and files that may import it. Folders end in `/`, a `*` stands for
 * any ending. Trees that may import anything are not fenced. A package that is not listed may be imported nowhere else.
 */
export const fences: Readonly<Record<string, readonly string[]>> = {
  "bun:ffi": ["board/native/"],
  "bun:sqlite": ["src/storage/"],
  "bun:test": [],
  "@alexaltea/capstone-js": [],
  "@biomejs/biome": ["scripts/"],
  "@hono/standard-validator": ["src/status/"],
  "@ldclabs/cose-ts": ["src/telemetry/"],
  "@logtape/logtape": ["src/log.ts"],
  "axe-core": [],
  "cbor-x": ["src/telemetry/"],
  commander: ["src/cli/"],
  "fast-check": [],
  hono: ["src/status/"],
  "iced-x86": ["src/binary/x86_64*"],
  mqtt: ["src/telemetry/"],
  "playwright-core": [],
  typescript: ["scripts/"],
  uplot: ["src/status/"],
  valibot: ["src/config/", "src/status/", "src/telemetry/", "src/appliance/rescue/", "src/appliance/update/"],
};

/** Trees of pure knowledge: no module of the runtime, so no I/O and no clock. */
export const pureTrees: readonly string[] = ["src/binary"];
/** Reads the WebAssembly of its package, and nothing else. */
export const readsItsPackage: readonly string[] = ["src/binary/x86_64Iced.ts"];
