// SPDX-License-Identifier: Apache-2.0
/**
 * `holdfast faults`: what happened, newest first, of every guard below one state directory.
 *
 * Text: a table. `--json`: one object a line. Exit code 0, also where there is nothing to show.
 */
import { type Command, InvalidArgumentError } from "commander";
import { toJson } from "#bytes.ts";
import { type FaultSummary, listFaults } from "#storage/journalReader.ts";
import { defaultStateDirectory } from "#storage/ownership.ts";
import { table } from "./table.ts";

const limitMax = 10_000;

export function addFaults(program: Command): void {
  program
    .command("faults")
    .description("what happened, newest first")
    .option("--state <dir>", "state directory (default: /var/lib/holdfast, or your own)")
    .option("--limit <n>", "so many at most", readLimit, 50)
    .option("--json", "one JSON object a line")
    .action(faults);
}

function faults(flags: { state?: string; limit: number; json?: true }): void {
  const stateDirectory = flags.state ?? defaultStateDirectory(process.env, process.getuid?.() ?? 0);
  const { faults: found, problems } = listFaults({ stateDirectory, limit: flags.limit });
  for (const { path, why } of problems) process.stderr.write(`holdfast: ${path} could not be read: ${why}\n`);
  if (flags.json) {
    for (const fault of found) process.stdout.write(`${toJson(fault)}\n`);
  } else if (found.length === 0) {
    process.stdout.write(`No faults are on record below ${stateDirectory}.\n`);
  } else {
    process.stdout.write(table(["TIME", "ID", "GUARD", "SIGNAL", "WHERE", "ACTION", "VERDICT"], found.map(row)));
  }
}

function row(fault: FaultSummary): string[] {
  const last = fault.trials.at(-1);
  const time = new Date(fault.atMs).toISOString().replace("T", " ").slice(0, 19);
  return [
    time,
    fault.id,
    fault.guard || "-",
    fault.signal,
    fault.symbol ?? fault.site.fault.replace(/^[0-9a-f]{8}([0-9a-f]*)/, (text) => `${text.slice(0, 8)}…`),
    last?.rung ?? "deliver",
    last === undefined ? "-" : (last.verdict ?? "open"),
  ];
}

function readLimit(text: string): number {
  const limit = Number(text);
  if (!/^\d+$/.test(text) || limit < 1 || limit > limitMax)
    throw new InvalidArgumentError(`A whole number from 1 to ${limitMax}.`);
  return limit;
}
