// SPDX-License-Identifier: Apache-2.0
/**
 * `bun run check`: format and lint, types, tidy, then the unit tests and the short fuzz tests, in under a minute.
 *
 * Gets nothing but the checkout; gives the output of what failed, one line a step, and exit code 1 where a step failed.
 * `--code` leaves out the tests.
 * The type check counts its files: a wrong project file checks none and is content with it.
 */
import { existsSync } from "node:fs";
import { systemClock } from "#clock.ts";
import { forms } from "./suite/forms.ts";
import { runTests } from "./suite/run.ts";
import { summaryLine } from "./suite/tally.ts";
import { readTree } from "./tidy.ts";

const top = `${import.meta.dir}/..`;
const checkedFolders = /^(src|board|vm|scripts|tests|image)\/.*\.tsx?$/;

type Step = { readonly name: string; readonly ok: boolean; readonly output: string; readonly tookMs: number };

async function step(name: string, run: () => Promise<{ ok: boolean; output: string }>): Promise<Step> {
  const startNs = systemClock.monotonicNs();
  const result = await run();
  return { name, ...result, tookMs: Math.round((systemClock.monotonicNs() - startNs) / 1e6) };
}

async function command(...words: string[]): Promise<{ ok: boolean; output: string }> {
  const child = Bun.spawn([process.execPath, ...words], { cwd: top, stdout: "pipe", stderr: "pipe", stdin: "ignore" });
  const [out, err] = await Promise.all([child.stdout.text(), child.stderr.text(), child.exited]);
  return { ok: child.exitCode === 0, output: out + err };
}

async function types(): Promise<{ ok: boolean; output: string }> {
  const result = await command("node_modules/typescript/bin/tsc", "-p", ".", "--listFiles", "--pretty", "false");
  const lines = result.output.split("\n");
  const seen = new Set(lines.filter((line) => /^\/.*\.tsx?$/.test(line) && !line.includes("/node_modules/")));
  const errors = lines.filter((line) => line !== "" && !line.startsWith("/")).join("\n");
  const ours = (await readTree(top)).filter((file) => checkedFolders.test(file.path)).length;
  const counted = ours > 0 && seen.size === ours;
  const count = counted
    ? ""
    : `types: ${seen.size} files checked, ${ours} in the tree: see "include" in tsconfig.json\n`;
  return { ok: result.ok && counted, output: `${count}${errors}\n` };
}

function report({ name, ok, output, tookMs }: Step): void {
  if (!ok) console.log(output.trimEnd());
  console.log(`${ok ? "ok  " : "FAIL"} ${name} (${(tookMs / 1000).toFixed(1)} s)`);
}

if (!existsSync(`${top}/node_modules/typescript`)) {
  console.log("the packages that checks need are not installed: run ./scripts/test fast once, or bun install");
  process.exit(2);
}

const steps = await Promise.all([
  step("format and lint", () =>
    command(
      "node_modules/@biomejs/biome/bin/biome",
      "check",
      "--error-on-warnings",
      "--config-path=scripts/style.json",
      ".",
    ),
  ),
  step("types", types),
  step("tidy", () => command("scripts/tidy.ts")),
]);
for (const item of steps) report(item);

const codeOk = steps.every((item) => item.ok);
if (process.argv.includes("--code")) process.exit(codeOk ? 0 : 1);

const { folders, fileTimeoutMs } = forms.fast!;
const tests = await runTests({ top, folders, form: "fast", fileTimeoutMs, show: "failures" });
console.log([...tests.problems, summaryLine(tests)].join("\n"));
process.exit(codeOk && tests.failed === 0 && tests.passed > 0 ? 0 : 1);
