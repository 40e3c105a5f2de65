// SPDX-License-Identifier: Apache-2.0
/**
 * Runs test files with Bun's runner and tallies them. Unit and fuzz tests share one process; every other file has its
 * own, so that one which crashes, hangs or leaves something behind takes no other with it.
 *
 * With two lanes two files run side by side: most of them wait more than they compute. One that failed there runs once more
 * with nothing beside it, and that counts; what it said the first time is told all the same.
 */
import { mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { deadline, systemClock } from "#clock.ts";
import { AssertionError } from "#errors.ts";
import { formVariable } from "./forms.ts";
import { addTallies, emptyTally, failureDetails, readReport, type Tally } from "./tally.ts";

export type RunOptions = {
  /** Top of the checkout. */
  readonly top: string;
  readonly folders: readonly string[];
  /** Name of the form, as the tests see it. */
  readonly form: string;
  readonly fileTimeoutMs: number;
  /** How much of the runner's own output is shown: every test, that of failed runs, nothing. */
  readonly show: "all" | "failures" | "nothing";
  /** Files that run side by side (1 unless told): their output is shown when they end, not as it comes. */
  readonly lanes?: number;
};

/** A single test may take this long where it does not say otherwise; unit tests take a fraction of it. */
const testTimeoutMs = 60_000;
/** How long what a test file left behind may still write after the runner has ended. */
const lastWordsMs = 500;
const sharedFolders = ["tests/unit", "tests/fuzz"];

export async function runTests(options: RunOptions): Promise<Tally> {
  const scratch = await mkdtemp(`${tmpdir()}/holdfast-test-`);
  const { lanes = 1 } = options;
  try {
    const run = (files: readonly string[], lane: number, live: boolean): Promise<Tally> =>
      runFiles(files, options, { report: `${scratch}/${lane}.xml`, live });
    const waiting = await batches(options);
    const ended: { readonly files: readonly string[]; readonly tally: Tally }[] = [];
    const lane = async (number: number): Promise<void> => {
      for (let files = waiting.shift(); files !== undefined; files = waiting.shift()) {
        ended.push({ files, tally: await run(files, number, lanes === 1) });
      }
    };
    await Promise.all(Array.from({ length: lanes }, (_, number) => lane(number)));
    let total = emptyTally;
    for (const { files, tally } of ended) {
      const again = lanes > 1 && tally.failed > 0;
      total = addTallies(total, again ? secondOf(tally, await run(files, 0, true)) : tally);
    }
    return total;
  } finally {
    await rm(scratch, { recursive: true, force: true });
  }
}

/** The second run counts. What failed only beside another file is told, with what it said: it may be worth a look. */
function secondOf(first: Tally, second: Tally): Tally {
  const notes = first.problems
    .filter((problem) => !second.problems.includes(problem))
    .map((problem) => `held only alone, ${problem}`);
  return { ...second, notes, details: notes.length === 0 ? second.details : [...first.details, ...second.details] };
}

async function batches({ top, folders }: RunOptions): Promise<string[][]> {
  const shared: string[] = [];
  const apart: string[][] = [];
  for (const folder of folders) {
    const files = (await readdir(`${top}/${folder}`, { recursive: true }).catch(absent))
      .filter((name) => /\.test\.tsx?$/.test(name))
      .map((name) => `${folder}/${name}`)
      .sort();
    if (sharedFolders.includes(folder)) shared.push(...files);
    else apart.push(...files.map((file) => [file]));
  }
  return shared.length === 0 ? apart : [shared, ...apart];
}

/** A tree of tests that nobody has written yet is an empty one. */
function absent(error: NodeJS.ErrnoException): string[] {
  if (error.code === "ENOENT") return [];
  throw error;
}

/** `report` is the runner's own, a path; `live` shows output as it comes. */
type Way = { readonly report: string; readonly live: boolean };

async function runFiles(files: readonly string[], options: RunOptions, { report, live }: Way): Promise<Tally> {
  await rm(report, { force: true });
  using limit = deadline(options.fileTimeoutMs, () => new AssertionError("bug", "test file out of time"));
  const words = ["--reporter=junit", `--reporter-outfile=${report}`, `--timeout=${testTimeoutMs}`];
  if (options.show !== "all" || files.length > 1) words.push("--only-failures");
  const child = Bun.spawn([process.execPath, "test", ...words, ...files.map((file) => `./${file}`)], {
    cwd: options.top,
    env: { ...process.env, [formVariable]: options.form },
    stdio: ["ignore", "pipe", "pipe"],
    signal: limit.signal,
    killSignal: "SIGKILL",
  });
  const output = await hear([child.stdout, child.stderr], live && options.show === "all", child.exited);
  await child.exited;
  const xml = await Bun.file(report)
    .text()
    .catch(() => "");
  const ending = limit.signal.aborted
    ? ` within ${options.fileTimeoutMs / 1000} s`
    : child.signalCode
      ? ` (${child.signalCode})`
      : "";
  const tally = settle(readReport(xml, files, ending), child.exitCode, files);
  if (!live && options.show === "all") process.stderr.write(output);
  if (options.show === "failures" && tally.failed > 0) console.log(output.trim());
  return options.show === "all" ? { ...tally, details: failureDetails(output) } : tally;
}

/**
 * All that is written, also passed on as it comes where it is shown. What a program left behind may keep the pipe open for
 * ever: after the runner has ended it is heard no longer.
 */
async function hear(
  streams: readonly ReadableStream<Uint8Array>[],
  shown: boolean,
  ended: Promise<unknown>,
): Promise<string> {
  const parts: Uint8Array[] = [];
  const readers = streams.map((stream) => stream.getReader());
  const reading = readers.map(async (reader) => {
    for (let next = await reader.read(); !next.done; next = await reader.read()) {
      parts.push(next.value);
      if (shown) process.stderr.write(next.value);
    }
  });
  await Promise.race([Promise.all(reading), ended.then(() => systemClock.sleep(lastWordsMs))]);
  for (const reader of readers) await reader.cancel();
  return Buffer.concat(parts).toString();
}

/** The runner also fails for errors outside any test; its report does not name those. */
function settle(tally: Tally, exitCode: number | null, files: readonly string[]): Tally {
  if (exitCode === 0 || tally.failed > 0) return tally;
  const where = files.length === 1 ? files[0] : `one of ${files.length} files`;
  return { ...tally, failed: 1, problems: [`failed: ${where}: an error outside its tests`] };
}
