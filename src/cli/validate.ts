// SPDX-License-Identifier: Apache-2.0
/**
 * `holdfast validate`: whether a configuration can be run, without running anything.
 *
 * Every problem is one line, `FILE:LINE: KEY: what is wrong`, on standard error; `--json` gives one object a line on
 * standard output. Exit code 0 where there is none, else that of a bad configuration.
 */
import type { Command } from "commander";
import { missingFiles } from "#config/files.ts";
import { describeProblem, readConfig, readText } from "#config/load.ts";
import { exitCodes } from "./exitCodes.ts";

export const defaultConfigPath = "/etc/holdfast/holdfast.toml";

export function addValidate(program: Command): void {
  program
    .command("validate")
    .description("whether a configuration can be run: unknown settings, wrong values, missing files")
    .option("--config <file>", "the configuration", defaultConfigPath)
    .option("--json", "one JSON object a line")
    .action(validate);
}

function validate(flags: { config: string; json?: true }): void {
  const text = readText(flags.config);
  const reading = readConfig(text);
  const problems = reading.kind === "problems" ? reading.problems : missingFiles(text, reading.config);
  for (const problem of problems) {
    if (flags.json) process.stdout.write(`${JSON.stringify({ file: flags.config, ...problem })}\n`);
    else process.stderr.write(`${flags.config}:${describeProblem(problem)}\n`);
  }
  if (problems.length > 0) process.exitCode = exitCodes.config;
  else if (reading.kind === "config" && !flags.json)
    process.stdout.write(`${flags.config}: ${summary(reading.config)}\n`);
}

function summary({ guests, programs }: { guests: readonly unknown[]; programs: readonly unknown[] }): string {
  const many = (items: readonly unknown[], word: string): string =>
    `${items.length} ${word}${items.length === 1 ? "" : "s"}`;
  return `good: ${many(guests, "guest")}, ${many(programs, "program")}`;
}
