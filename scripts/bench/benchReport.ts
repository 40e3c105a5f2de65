// SPDX-License-Identifier: Apache-2.0
/**
 * What every benchmark prints and writes: a short table for people, and with `--json FILE` one object.
 *
 * The object: name, version, seed, machine, rounds, results, failed_runs. Failed runs are kept, never left out. A run whose
 * control moved more than `driftMax` says so.
 */
import { cpus, release } from "node:os";
import { drift } from "./statistics.ts";

export type BenchReport = {
  readonly name: string;
  readonly version: string;
  readonly seed: number;
  readonly machine: { readonly arch: string; readonly cores: number; readonly kernel: string };
  readonly rounds: number;
  readonly results: Readonly<Record<string, unknown>>;
  readonly failed_runs: readonly unknown[];
};

export type BenchFlags = { readonly json: string | null; readonly numbers: Readonly<Record<string, number>> };

const driftMax = 0.2;
/** Of the first failed run as printed; the file has all of it. */
const failedCharactersMax = 400;

/** Reads `--json FILE` and `--NAME N` for each default; complains and ends the process on anything else. */
export function readFlags(words: readonly string[], defaults: Readonly<Record<string, number>>): BenchFlags {
  const numbers: Record<string, number> = { ...defaults };
  let json: string | null = null;
  for (let index = 0; index < words.length; index += 2) {
    const [name, value] = [words[index]!.replace(/^--/, ""), words[index + 1] ?? ""];
    if (name === "json" && value !== "") json = value;
    else if (name in numbers && Number.isInteger(Number(value)) && value !== "") numbers[name] = Number(value);
    else {
      const known = Object.entries(defaults).map(([flag, usual]) => `[--${flag} ${usual}]`);
      console.error(`usage: [--json FILE] ${known.join(" ")}`);
      process.exit(2);
    }
  }
  return { json, numbers };
}

/** `shown`: the results in words of the benchmark's own; without it, one line each. */
export async function publish(
  report: Omit<BenchReport, "version" | "machine">,
  json: string | null,
  shown?: string,
): Promise<void> {
  const { version } = (await Bun.file(`${import.meta.dir}/../../package.json`).json()) as { version: string };
  const machine = { arch: process.arch, cores: cpus().length, kernel: release() };
  const { name, seed, rounds, results, failed_runs } = report;
  const whole: BenchReport = { name, version, seed, machine, rounds, results, failed_runs };
  console.log(`${name} ${version}, ${machine.arch}, ${machine.cores} cores, Linux ${machine.kernel}, seed ${seed}`);
  if (shown !== undefined) console.log(shown);
  else for (const [key, value] of Object.entries(results)) console.log(`  ${key.padEnd(34)} ${inWords(value)}`);
  if (failed_runs.length > 0)
    console.log(
      `  FAILED RUNS: ${failed_runs.length}, first: ${JSON.stringify(failed_runs[0]).slice(0, failedCharactersMax)}`,
    );
  if (json !== null) await Bun.write(json, `${JSON.stringify(whole, null, 2)}\n`);
}

/** How unsteady the machine was, with a warning where that spoils the figures. */
export function controlResult(control: readonly number[]): { driftMax: number; steady: boolean; warning?: string } {
  const moved = drift(control);
  const steady = moved <= driftMax;
  const warning = `the control moved ${Math.round(moved * 100)} %: the machine was not quiet`;
  return { driftMax: Number(moved.toFixed(3)), steady, ...(steady ? {} : { warning }) };
}

const inWords = (value: unknown): string =>
  typeof value === "object" && value !== null
    ? Object.entries(value)
        .map(([key, item]) => `${key} ${typeof item === "object" ? JSON.stringify(item) : String(item)}`)
        .join(", ")
    : String(value);

/** Rounded to `digits` behind the point, for reading. */
export const rounded = (value: number, digits = 1): number => Number(value.toFixed(digits));
