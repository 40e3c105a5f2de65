// SPDX-License-Identifier: Apache-2.0
/**
 * `holdfast replay ID|FILE`: decides a recorded fault again and prints the transcript. Needs neither the program nor root.
 *
 * Exit code 0 where the decision is the same as then, 1 where it is another one.
 */
import { existsSync, readFileSync, statSync } from "node:fs";
import type { Command } from "commander";
import { replay, replayLines } from "#appliance/replay.ts";
import { recordedFault } from "#appliance/transcript.ts";
import { toJson } from "#bytes.ts";
import { ConfigError } from "#errors.ts";
import { type FaultRecord, readExport, readFault } from "#storage/journalReader.ts";
import { defaultStateDirectory } from "#storage/ownership.ts";
import { exitCodes } from "./exitCodes.ts";
import { printable } from "./table.ts";

const exportBytesMax = 64 * 1024 * 1024;

export function addReplay(program: Command): void {
  program
    .command("replay")
    .description("decide a recorded fault again, and say why")
    .argument("<id-or-file>", "a fault's id, or a file written by holdfast show ID --export FILE")
    .option("--state <dir>", "state directory (default: /var/lib/holdfast, or your own)")
    .option("--json", "plan and decision as JSON")
    .action(run);
}

function run(idOrFile: string, flags: { state?: string; json?: true }): void {
  const stateDirectory = flags.state ?? defaultStateDirectory(process.env, process.getuid?.() ?? 0);
  const recorded = recordedFault(readRecord(idOrFile, stateDirectory));
  const again = replay(recorded.report, recorded.decision);
  const text = flags.json ? toJson(again) : replayLines(recorded).map(printable).join("\n");
  process.stdout.write(`${text}\n`);
  process.exitCode = again.same ? exitCodes.ok : exitCodes.no;
}

function readRecord(idOrFile: string, stateDirectory: string): FaultRecord {
  if (!existsSync(idOrFile)) return readFault(stateDirectory, idOrFile);
  const stat = statSync(idOrFile);
  if (!stat.isFile() || stat.size > exportBytesMax) {
    throw new ConfigError(
      "config.argument",
      `${idOrFile} is no exported fault: ${stat.isFile() ? "it is too large" : "it is no file"}`,
    );
  }
  return readExport(readFileSync(idOrFile, "utf8"));
}
