// SPDX-License-Identifier: Apache-2.0
/**
 * `holdfast show ID`: one fault in full. `--json` prints the record, `--export FILE` writes it for `holdfast replay FILE`.
 */
import { writeFileSync } from "node:fs";
import type { Command } from "commander";
import { flightPicture } from "#appliance/flightPicture.ts";
import { recordedFault, transcript } from "#appliance/transcript.ts";
import { toJson } from "#bytes.ts";
import { ConfigError } from "#errors.ts";
import { readFlight } from "#storage/flightReader.ts";
import { exportFault, readFault } from "#storage/journalReader.ts";
import { defaultStateDirectory } from "#storage/ownership.ts";
import { printable } from "./table.ts";

export function addShow(program: Command): void {
  program
    .command("show")
    .description("one fault in full: stack, registers, what was done and how it ended")
    .argument("<id>", "the fault's id, its beginning, or its last part")
    .option("--state <dir>", "state directory (default: /var/lib/holdfast, or your own)")
    .option("--json", "the record as JSON")
    .option("--export <file>", "write the record to a file that holdfast replay reads")
    .action(show);
}

function show(id: string, flags: { state?: string; json?: true; export?: string }): void {
  const state = flags.state ?? defaultStateDirectory(process.env, process.getuid?.() ?? 0);
  const record = readFault(state, id);
  if (flags.export !== undefined) {
    writeExport(flags.export, exportFault(record));
    process.stdout.write(
      `Fault ${record.id} is in ${flags.export}; decide it again with: holdfast replay ${flags.export}\n`,
    );
  } else if (flags.json) {
    process.stdout.write(`${toJson({ ...record, flight: readFlight(state, record) })}\n`);
  } else {
    const flight = readFlight(state, record);
    const picture = flight === null ? [] : ["", ...flightPicture(flight)];
    process.stdout.write(`${[...transcript(recordedFault(record)), ...picture].map(printable).join("\n")}\n`);
  }
}

function writeExport(path: string, text: string): void {
  try {
    writeFileSync(path, text, { mode: 0o600 });
  } catch (error) {
    throw new ConfigError("config.argument", `cannot write the export to ${path}`, {}, error);
  }
}
