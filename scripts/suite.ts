// SPDX-License-Identifier: Apache-2.0
/**
 * `./scripts/test [FORM]` once everything is installed: the check, then the tests of the form, then what was skipped and
 * why, and last the one line `N passed, N failed, N skipped`. Exit code 1 where anything failed or nothing was tested.
 */
import { availableParallelism } from "node:os";
import { forms } from "./suite/forms.ts";
import { runTests } from "./suite/run.ts";
import { skipLines, summaryLine } from "./suite/tally.ts";

const top = `${import.meta.dir}/..`;

function usage(): string {
  const lines = Object.entries(forms).map(([name, form]) => `  ${name.padEnd(8)} ${form.about}`);
  return ["usage: ./scripts/test [FORM]", ...lines].join("\n");
}

/** Format, types and tidy, as one test of the run. */
async function checkCode(): Promise<boolean> {
  const child = Bun.spawn([process.execPath, "scripts/check.ts", "--code"], {
    cwd: top,
    stdio: ["ignore", "inherit", "inherit"],
  });
  return (await child.exited) === 0;
}

const name = process.argv[2] ?? "default";
const form = forms[name];
if (form === undefined || process.argv.length > 3) {
  console.error(usage());
  process.exit(name === "--help" || name === "-h" ? 0 : 2);
}

const codeOk = await checkCode();
const { folders, fileTimeoutMs } = form;
const lanes = Math.min(form.lanes ?? 1, availableParallelism());
const tests = await runTests({ top, folders, form: name, fileTimeoutMs, show: "all", lanes });
const total = codeOk
  ? { ...tests, passed: tests.passed + 1 }
  : { ...tests, failed: tests.failed + 1, problems: ["failed: format, types or tidy (see above)", ...tests.problems] };
// What failed stands last, where one looks first.
if (total.skips.length > 0) console.log(["skipped:", ...skipLines(total.skips)].join("\n"));
for (const line of [...total.notes, ...total.details, ...total.problems]) console.log(line);
console.log(summaryLine(total));
process.exit(total.failed === 0 && tests.passed > 0 ? 0 : 1);
