// SPDX-License-Identifier: Apache-2.0
/**
 * The tally of a run: read from the runner's report, and from the runner itself on files that pass, fail and crash.
 */
import { expect, test } from "bun:test";
import { mkdir, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { runTests } from "#scripts/suite/run.ts";
import { failureDetails, readReport, skipLines, summaryLine, withReason } from "#scripts/suite/tally.ts";
import { need, programPath } from "#tests/skip.ts";

test("a report gives counts, and skips their reasons", () => {
  const name = withReason("survives", "a &lt;b&gt; &quot;c&quot;");
  const xml = `<testsuites><testsuite><testcase name="one" classname="" file="a.test.ts" />
    <testcase name="two" classname="group" file="a.test.ts"><failure type="E" message="no" /></testcase>
    <testcase name="${name}" classname="" file="b.test.ts"><skipped /></testcase>
    <testcase name="bare" classname="" file="b.test.ts"><skipped /></testcase></testsuite></testsuites>`;
  const tally = readReport(xml, ["a.test.ts", "b.test.ts"], "");
  expect(tally.problems).toEqual(["failed: a.test.ts: group > two"]);
  expect(tally.skips).toEqual([
    { file: "b.test.ts", name: "survives", reason: 'a <b> "c"' },
    { file: "b.test.ts", name: "bare", reason: "no reason given" },
  ]);
  expect(summaryLine(tally)).toBe("1 passed, 1 failed, 2 skipped");
  expect(skipLines(tally.skips)).toContain('  needs a <b> "c"');
});

test("a file without a report is a failure", () => {
  const tally = readReport("", ["a.test.ts"], " (SIGKILL)");
  expect(tally.problems).toEqual(["failed: a.test.ts: no test of it ended (SIGKILL)"]);
  expect(summaryLine({ ...tally, failed: 0 })).toBe("0 passed, 0 failed");
});

test("what a failed test said is repeated, without its neighbours", () => {
  const said = ["(pass) one", "error: 1 is not 2", "(fail) two [3ms]", "(pass) three", " 1 fail"].join("\n");
  expect(failureDetails(said)).toEqual(["error: 1 is not 2\n(fail) two [3ms]"]);
  const [long] = failureDetails(`${"line\n".repeat(99)}(fail) four`);
  expect(long!.split("\n")).toHaveLength(41);
});

test("the runner's own report is read: passed, failed, out of time, died, empty", async () => {
  const top = await mkdtemp(`${tmpdir()}/holdfast-suite-`);
  const write = (name: string, body: string): Promise<number> =>
    Bun.write(`${top}/tests/path/${name}.test.ts`, `import { expect, test } from "bun:test";\n${body}\n`);
  await mkdir(`${top}/tests/path`, { recursive: true });
  await write("a", 'test("good", () => {}); test("bad", () => expect(1).toBe(2));');
  await write("b", 'test("dies", () => process.kill(process.pid, "SIGKILL"));');
  await write("c", 'test("hangs", () => { for (;;); });');
  await write("d", "");
  const tally = await runTests({
    top,
    folders: ["tests/path", "tests/none"],
    form: "default",
    fileTimeoutMs: 3000,
    show: "nothing",
  });
  await rm(top, { recursive: true });
  expect(tally.passed).toBe(1);
  expect(tally.problems).toEqual([
    "failed: tests/path/a.test.ts: bad",
    "failed: tests/path/b.test.ts: no test of it ended (SIGKILL)",
    "failed: tests/path/c.test.ts: no test of it ended within 3 s",
    "failed: tests/path/d.test.ts: no test of it ended",
  ]);
}, 20_000);

test("side by side, a file that failed runs once more alone; that counts, and is told", async () => {
  const top = await mkdtemp(`${tmpdir()}/holdfast-suite-`);
  await mkdir(`${top}/tests/path`, { recursive: true });
  const write = (name: string, body: string): Promise<number> =>
    Bun.write(`${top}/tests/path/${name}.test.ts`, `import { expect, test } from "bun:test";\n${body}\n`);
  await write(
    "a",
    `test("at once", () => expect(1).toBe(2));
     test("second time", async () => {
       const seen = Bun.file("${top}/seen");
       const before = await seen.exists();
       await Bun.write(seen, "");
       expect(before).toBe(true);
     });`,
  );
  await write("b", 'test("good", () => {});');
  const folders = ["tests/path"];
  const tally = await runTests({ top, folders, form: "default", fileTimeoutMs: 20_000, show: "nothing", lanes: 2 });
  await rm(top, { recursive: true });
  expect(summaryLine(tally)).toBe("2 passed, 1 failed");
  expect(tally.problems).toEqual(["failed: tests/path/a.test.ts: at once"]);
  expect(tally.notes).toEqual(["held only alone, failed: tests/path/a.test.ts: second time"]);
}, 20_000);

test("need gives the plain test where all is there", () => {
  expect(need("sh")).toBe(test as ReturnType<typeof need>);
  expect(need("no-such-program")).not.toBe(test as ReturnType<typeof need>);
  expect(programPath("no-such-program")).toBeNull();
});
