// SPDX-License-Identifier: Apache-2.0
/**
 * What was learned of how a program's threads wait, noted for the next supervisor: a thread that it finds stopped in its
 * fault can no longer be seen waiting. Gets and gives spines; one file in the guard's run directory.
 *
 * Addresses hold for one process and one program in it, so the file goes with either. Limits: 512 threads; written when
 * a thread has become known, at most every 2 s. A file that does not read as what it should be counts as none.
 */
import { readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { parseJson, toJson } from "#bytes.ts";
import { type Clock, sleepToBeat } from "#clock.ts";
import type { LearnedSpines, Spines } from "#monitor/spines.ts";

const threadsMax = 512;
const lookMs = 2000;

const pathIn = (runDirectory: string): string => join(runDirectory, "spines.json");

/** Writes what is learned, from now on, until the signal aborts. */
export async function noteSpines(
  spines: Spines,
  runDirectory: string,
  clock: Clock,
  signal: AbortSignal,
): Promise<void> {
  for (let noted = 0; !signal.aborted; ) {
    if (spines.threads !== noted) write(spines.learned.slice(0, threadsMax), pathIn(runDirectory));
    noted = spines.threads;
    await sleepToBeat(clock, lookMs, signal).catch(() => {});
  }
}

export function readSpines(runDirectory: string): LearnedSpines {
  try {
    const value = parseJson(readFileSync(pathIn(runDirectory), "utf8"));
    return isLearned(value) ? value : [];
  } catch {
    return []; // Never written, or damaged.
  }
}

export const removeSpines = (runDirectory: string): void => rmSync(pathIn(runDirectory), { force: true });

function write(learned: LearnedSpines, path: string): void {
  try {
    writeFileSync(`${path}.new`, toJson(learned), { mode: 0o600 });
    renameSync(`${path}.new`, path);
  } catch {
    // A run directory that is full: a later supervisor knows less.
  }
}

function isLearned(value: unknown): value is LearnedSpines {
  return Array.isArray(value) && value.every((pair) => Number.isSafeInteger(pair?.[0]) && isPoint(pair?.[1]));
}

function isPoint(point: Record<string, unknown> | undefined): boolean {
  const numbers = [point?.kind, point?.seen].every(Number.isSafeInteger);
  const addresses = [point?.sp, point?.pc].every((one) => typeof one === "bigint");
  return numbers && addresses && Array.isArray(point?.frames) && point.frames.every(isFrame);
}

const isFrame = (frame: Record<string, unknown> | undefined): boolean =>
  typeof frame?.pc === "bigint" &&
  typeof frame.isPart === "boolean" &&
  [frame.cfa, frame.function].every((one) => one === null || typeof one === "bigint");
