// SPDX-License-Identifier: Apache-2.0
/**
 * Each tidy rule: one file that breaks it and is reported at the right line, and one close to it that does not.
 */
import { expect, test } from "bun:test";
import { type SourceFile, sourceFile } from "#scripts/tidy/source.ts";
import { readTree, tidy } from "#scripts/tidy.ts";

const licence = "// SPDX-License-Identifier: Apache-2.0\n";
const header = `${licence}/**\n * A file that a rule is tried on; nothing else is wrong.\n */\n`;
const bodyLine = 5;

const file = (path: string, body: string): SourceFile => sourceFile(path, header + body);
const say = (...files: SourceFile[]): string[] => tidy(files).map(({ path, line, rule }) => `${path}:${line} ${rule}`);

/** The rules that `body` breaks on its first line after the header. */
function broken(path: string, body: string): string[] {
  const findings = tidy([file(path, body)]);
  for (const finding of findings) expect(`${finding.line} ${finding.advice}`).toStartWith(`${bodyLine} `);
  return findings.map((finding) => finding.rule);
}

test("the checkout is read: its files, and none of what is installed or written beside them", async () => {
  const paths = (await readTree(`${import.meta.dir}/../../..`)).map((item) => item.path);
  expect(paths).toContain("tests/unit/scripts/tidy.test.ts");
  expect(paths).toContain(".ci/run");
  expect(paths.filter((path) => /node_modules|^\.git\/|^\.cache/.test(path))).toEqual([]);
});

test("layout: top level, vocabulary and modules are closed lists", () => {
  expect(say(file("lib/a.ts", ""))).toEqual(["lib/a.ts:1 layout"]);
  expect(say(file("src/extra.ts", ""))).toEqual(["src/extra.ts:1 layout"]);
  expect(say(file("src/engine/a.ts", ""))).toEqual(["src/engine/a.ts:1 layout"]);
  expect(say(file("src/clock.ts", ""), file("src/monitor/gdb/frame.ts", ""), file("board/a.ts", ""))).toEqual([]);
});

test("import-table: only listed edges, type imports and import() included", () => {
  expect(broken("src/monitor/a.ts", 'import { plan } from "#suppression/plan.ts";')).toEqual(["import-table"]);
  expect(broken("src/monitor/a.ts", 'import type { Plan } from "#suppression/plan.ts";')).toEqual(["import-table"]);
  expect(broken("src/cli/a.ts", 'const verb = await import("#monitor/gdb/client.ts");')).toEqual(["import-table"]);
  expect(broken("src/cli/a.ts", 'type Verb = import("#board/box.ts").Verb;')).toEqual(["import-table"]);
  expect(broken("src/fault.ts", 'import "#storage/journal.ts";')).toEqual(["import-table"]);
  expect(broken("src/monitor/a.ts", 'import {\n  a,\n  b,\n} from "#binary/elf.ts";')).toEqual([]);
  expect(broken("scripts/bench/a.ts", 'import { a } from "#monitor/gdb/client.ts";')).toEqual([]);
  expect(broken("src/monitor/a.ts", '// import { plan } from "#suppression/plan.ts";')).toEqual([]);
});

test("import-table: config takes types of the others and nothing else", () => {
  expect(broken("src/config/a.ts", 'import type { Options } from "#monitor/options.ts";')).toEqual([]);
  expect(broken("src/config/a.ts", 'import { type Options } from "#monitor/options.ts";')).toEqual(["import-table"]);
});

test("import-spelling: alias across trees, ./ inside, exact file", () => {
  expect(broken("src/monitor/a.ts", 'import { a } from "../binary/elf.ts";')).toEqual(["import-spelling"]);
  expect(broken("src/monitor/a.ts", 'import { a } from "#monitor/b.ts";')).toEqual(["import-spelling"]);
  expect(broken("src/monitor/a.ts", 'import { a } from "./b";')).toEqual(["import-spelling"]);
  expect(broken("src/monitor/gdb/a.ts", 'import { a } from "../b.ts";')).toEqual([]);
  expect(broken("tests/path/a.test.ts", 'import { a } from "#tests/peers/b.ts";')).toEqual([]);
});

test("package-fence: each package has its place", () => {
  expect(broken("src/monitor/a.ts", 'import { dlopen } from "bun:ffi";')).toEqual(["package-fence"]);
  expect(broken("board/native/a.ts", 'import { dlopen } from "bun:ffi";')).toEqual([]);
  expect(broken("src/status/a.ts", 'import { Database } from "bun:sqlite";')).toEqual(["package-fence"]);
  expect(broken("src/cli/a.ts", 'import { Hono } from "hono/tiny";')).toEqual(["package-fence"]);
  expect(broken("src/status/a.ts", 'import { Hono } from "hono/tiny";')).toEqual([]);
  expect(broken("src/cli/a.ts", 'import left from "left-pad";')).toEqual(["package-fence"]);
  expect(broken("src/binary/elf.ts", 'import { readFileSync } from "node:fs";')).toEqual(["package-fence"]);
  expect(broken("src/binary/elf.ts", 'import { Decoder } from "iced-x86";')).toEqual(["package-fence"]);
  expect(broken("src/binary/x86_64Call.ts", 'import { Decoder } from "iced-x86";')).toEqual([]);
  expect(broken("src/cli/a.ts", 'import { readFileSync } from "node:fs";')).toEqual([]);
});

test("no-cycle: a ring of files is reported once, type imports count", () => {
  const a = file("src/monitor/a.ts", 'import { b } from "./b.ts";');
  const b = file("src/monitor/b.ts", 'import type { C } from "./gdb/c.ts";');
  expect(say(a, b, file("src/monitor/gdb/c.ts", 'import { a } from "../a.ts";'))).toEqual([
    "src/monitor/a.ts:1 no-cycle",
  ]);
  expect(say(a, b, file("src/monitor/gdb/c.ts", ""))).toEqual([]);
});

test("no-barrel: nothing only passes names on", () => {
  expect(broken("src/monitor/a.ts", 'export * from "./b.ts";')).toEqual(["no-barrel"]);
  expect(broken("src/monitor/a.ts", 'export { b } from "./b.ts";')).toEqual(["no-barrel"]);
  expect(say(file("src/monitor/index.ts", ""))).toEqual(["src/monitor/index.ts:1 no-barrel"]);
  expect(broken("src/monitor/a.ts", "const b = 1;\nexport { b };")).toEqual([]);
});

test("header: licence, then a comment that says something, before imports", () => {
  expect(say(sourceFile("board/a.ts", "export {};\n"))).toEqual(["board/a.ts:1 header"]);
  expect(say(sourceFile("board/a.ts", `${licence}export {};\n`))).toEqual(["board/a.ts:2 header"]);
  expect(say(sourceFile("board/a.ts", `${licence}/**\n * a.\n */\n`))).toEqual(["board/a.ts:2 header"]);
  expect(say(sourceFile("board/a.ts", `${licence}/** One sentence that says what this is. */\n`))).toEqual([]);
  expect(say(sourceFile("board/a.ts", `#!/usr/bin/env bun\n${header}`))).toEqual([]);
  expect(say(sourceFile("scripts/run", "#!/bin/sh\nexit 0\n"))).toEqual(["scripts/run:2 header"]);
});

test("file-length: 400 lines", () => {
  const lines = (count: number): string => "f();\n".repeat(count - bodyLine + 1);
  expect(say(file("board/a.ts", lines(401)))).toEqual(["board/a.ts:400 file-length"]);
  expect(say(file("board/a.ts", lines(400)))).toEqual([]);
  expect(say(file("board/a.gen.ts", lines(4000)))).toEqual([]);
});

const long = "f();\n".repeat(60);
test.each([
  ["declaration", `function a(): void {\n${long}}`],
  ["object return type", `function a(): { b: number } | null {\n${long}}`],
  ["type parameters", `function a<T extends { b: 1 }>(c: T): asserts c is T {\n${long}}`],
  ["arrow", `const a = async (b: number): Promise<void> => {\n${long}};`],
  ["callback", `run((b) => {\n${long}});`],
])("function-length: 60 lines, seen in %s", (_, body) => {
  expect(broken("board/a.ts", body)).toEqual(["function-length"]);
  expect(broken("board/a.ts", body.replace("f();\nf();\n", ""))).toEqual([]);
});

test("function-length: methods count, control blocks and test groups do not", () => {
  expect(say(file("board/a.ts", `class A {\n  async #b(c: C): Promise<D> {\n${long}}\n}`))).toEqual([
    "board/a.ts:6 function-length",
  ]);
  expect(broken("tests/unit/a.test.ts", `describe("a group", () => {\n${long}});`)).toEqual([]);
  expect(broken("board/a.ts", `switch (f()) {\n${long}}`)).toEqual([]);
});

test("banned-name: files, declarations, and handle as a verb", () => {
  expect(say(file("board/fileUtils.ts", ""))).toEqual(["board/fileUtils.ts:1 banned-name"]);
  expect(broken("board/a.ts", "const frameData = 1;")).toEqual(["banned-name"]);
  expect(broken("board/a.ts", "class LaneManager {}")).toEqual(["banned-name"]);
  expect(broken("board/a.ts", "export type BaseOptions = object;")).toEqual(["banned-name"]);
  expect(broken("board/a.ts", "function handleStop(): void {}")).toEqual(["banned-name"]);
  expect(broken("board/a.ts", "const handleStop = (): void => {};")).toEqual(["banned-name"]);
  expect(say(file("board/a.ts", "class A {\n  handleStop(): void {}\n}"))).toEqual(["board/a.ts:6 banned-name"]);
  expect(broken("board/a.ts", "const handle = open(); // info about data")).toEqual([]);
  expect(broken("board/a.ts", "const database = siginfo;")).toEqual([]);
  expect(broken("src/binary/x86_64.ts", "const baseRegister = 5;")).toEqual([]);
});

test("bare-error, clock and no-enum", () => {
  expect(broken("board/a.ts", 'throw new Error("no");')).toEqual(["bare-error"]);
  expect(broken("board/a.ts", 'throw new BoxError("no");')).toEqual([]);
  const clocks = ["Date.now()", "new Date()", "setTimeout(f, 1)", "performance.now()", "Math.random()", "Bun.sleep(1)"];
  for (const call of clocks) {
    expect(broken("tests/unit/a.test.ts", `${call};`)).toEqual(["clock"]);
    expect(broken("src/clock.ts", `${call};`)).toEqual([]);
  }
  expect(broken("board/a.ts", "const at = new Date(clock.wallMs());")).toEqual([]);
  expect(broken("board/a.ts", "export enum Kind { a }")).toEqual(["no-enum"]);
  expect(broken("board/a.ts", "namespace A {}")).toEqual(["no-enum"]);
});

test("silent-skip: a skipped test says what is missing", () => {
  expect(broken("tests/real/a.test.ts", 'test.skip("a", () => {});')).toEqual(["silent-skip"]);
  expect(broken("tests/real/a.test.ts", 'describe.skipIf(true)("a", () => {});')).toEqual(["silent-skip"]);
});

test("machine-path and named-host: nothing of one machine or its network", () => {
  const home = ["", "root", "x"].join("/");
  const host = ["registry", "example", "dev"].join(".");
  expect(broken("board/a.ts", `read("${home}");`)).toEqual(["machine-path"]);
  expect(broken("board/a.ts", 'read("/proc/1/root/x", "/var/lib/x");')).toEqual([]);
  expect(broken("board/a.ts", `// see ${["https:", "", "host.dev"].join("/")}`)).toEqual(["named-host"]);
  expect(say(sourceFile("bun.lock", `["a", "${host}/a"]`))).toEqual(["bun.lock:1 named-host"]);
  expect(broken("board/a.ts", 'fetch("http://127.0.0.1:80/"); // and http://box.example/')).toEqual([]);
});
