// SPDX-License-Identifier: Apache-2.0
/**
 * What a test run came to: counts and the skipped tests with their reasons, read from the runner's JUnit report.
 *
 * The report is the runner's own, so the reader trusts its form: one `testcase` for each test, `failure` or `skipped`
 * inside. A test file that is not in it never ran to its end, and counts as one failed test.
 */

export type Skip = { readonly file: string; readonly name: string; readonly reason: string };

export type Tally = {
  readonly passed: number;
  readonly failed: number;
  readonly skips: readonly Skip[];
  /** One line for each failed test. */
  readonly problems: readonly string[];
  /** What the runner wrote of each failed test. */
  readonly details: readonly string[];
  /** One line for each test that failed beside another file and held alone. */
  readonly notes: readonly string[];
};

export const emptyTally: Tally = { passed: 0, failed: 0, skips: [], problems: [], details: [], notes: [] };

export const addTallies = (a: Tally, b: Tally): Tally => ({
  passed: a.passed + b.passed,
  failed: a.failed + b.failed,
  skips: [...a.skips, ...b.skips],
  problems: [...a.problems, ...b.problems],
  details: [...a.details, ...b.details],
  notes: [...a.notes, ...b.notes],
});

/** How a skipped test carries its reason: `name [needs redis-server: apt-get install redis-server]`. */
export const reasonMark = " [needs ";
export const withReason = (name: string, reason: string): string => `${name}${reasonMark}${reason}]`;

const testCase = /<testcase ([^>]*?)(\/>|>([\s\S]*?)<\/testcase>)/g;

/** The tally of one run over `files`; `ending` says how the runner ended where that is not by itself with 0 or 1. */
export function readReport(xml: string, files: readonly string[], ending: string): Tally {
  let tally = emptyTally;
  const silent = new Set(files);
  for (const [, attributes, , inner = ""] of xml.matchAll(testCase)) {
    const file = attribute(attributes!, "file");
    const name = [attribute(attributes!, "classname"), attribute(attributes!, "name")]
      .filter((part) => part !== "")
      .join(" > ");
    silent.delete(file);
    tally = addTallies(tally, judge(file, name, inner));
  }
  for (const file of silent) {
    tally = addTallies(tally, {
      ...emptyTally,
      failed: 1,
      problems: [`failed: ${file}: no test of it ended${ending}`],
    });
  }
  return tally;
}

function judge(file: string, name: string, inner: string): Tally {
  if (inner.includes("<skipped")) return { ...emptyTally, skips: [skipOf(file, name)] };
  if (!inner.includes("<failure") && !inner.includes("<error")) return { ...emptyTally, passed: 1 };
  return { ...emptyTally, failed: 1, problems: [`failed: ${file}: ${name}`] };
}

function skipOf(file: string, name: string): Skip {
  const at = name.lastIndexOf(reasonMark);
  if (at < 0 || !name.endsWith("]")) return { file, name, reason: "no reason given" };
  return { file, name: name.slice(0, at), reason: name.slice(at + reasonMark.length, -1) };
}

function attribute(attributes: string, name: string): string {
  const found = new RegExp(`(?:^|\\s)${name}="([^"]*)"`).exec(attributes);
  return (found?.[1] ?? "").replaceAll(/&(lt|gt|quot|apos|amp|#(\d+));/g, (_, entity: string, code?: string) =>
    code === undefined ? entities[entity]! : String.fromCodePoint(Number(code)),
  );
}

const entities: Readonly<Record<string, string>> = { lt: "<", gt: ">", quot: '"', apos: "'", amp: "&" };

const detailLinesMax = 40;
const verdictLine = /^\((pass|fail|skip|todo)\) /;

/** The last lines before each `(fail)`, back to the test before it: they say what was expected. */
export function failureDetails(output: string): string[] {
  const lines = output.split("\n");
  const ends = [...lines.keys()].filter((at) => verdictLine.test(lines[at]!));
  return ends
    .map((end, index) => ({ from: (ends[index - 1] ?? -1) + 1, end }))
    .filter(({ end }) => lines[end]!.startsWith("(fail)"))
    .map(({ from, end }) => lines.slice(Math.max(from, end - detailLinesMax), end + 1).join("\n"));
}

/** Skipped tests by reason: a line for each reason, and one for each file under it. */
export function skipLines(skips: readonly Skip[]): string[] {
  const byReason = Map.groupBy(skips, (skip) => skip.reason);
  return [...byReason].flatMap(([reason, ofReason]) => {
    const byFile = Map.groupBy(ofReason, (skip) => skip.file);
    const files = [...byFile].map(
      ([file, ofFile]) => `    ${file}: ${ofFile.length === 1 ? ofFile[0]!.name : `${ofFile.length} tests`}`,
    );
    return [`  needs ${reason}`, ...files];
  });
}

/** The closing line of a run: `N passed, N failed`, and `, N skipped` where there are any. */
export function summaryLine({ passed, failed, skips }: Tally): string {
  return `${passed} passed, ${failed} failed${skips.length === 0 ? "" : `, ${skips.length} skipped`}`;
}
