// SPDX-License-Identifier: Apache-2.0
/**
 * `holdfast run`: runs what a configuration names until it is told to end.
 *
 * SIGINT and SIGTERM end it and leave guests and programs running, the programs unguarded, to be taken over by the next
 * one; with `--stop-guests` guests are stopped in order. SIGHUP is for a restart: programs stay held by their stubs, and
 * a fault meanwhile waits. Exit code 0 after an orderly end.
 */
import type { Command } from "commander";
import { hold, runAppliance } from "#appliance/run.ts";
import { systemClock } from "#clock.ts";
import { loadConfig } from "#config/load.ts";
import { openLog } from "#log.ts";
import { defaultRunDirectory, defaultStateDirectory } from "#storage/ownership.ts";
import { version } from "./program.ts";
import { defaultConfigPath } from "./validate.ts";

type RunFlags = {
  readonly config: string;
  readonly state?: string;
  readonly run?: string;
  readonly json?: true;
  readonly stopGuests?: true;
  readonly verbose?: true;
};

export function addRun(program: Command): void {
  program
    .command("run")
    .description("run the programs and guests of a configuration, and keep them running")
    .option("--config <file>", "the configuration", defaultConfigPath)
    .option("--state <dir>", "state directory (default: as configured, /var/lib/holdfast, or your own)")
    .option("--run <dir>", "run directory (default: as configured, /run/holdfast, or your own)")
    .option("--json", "one JSON object a line on standard output")
    .option("--stop-guests", "stop the guests when this ends; otherwise they run on")
    .option("--verbose", "log what it does")
    .addHelpText("after", "\nExample:\n  holdfast run --config /etc/holdfast/holdfast.toml")
    .action(run);
}

async function run(flags: RunFlags): Promise<void> {
  const config = loadConfig(flags.config);
  const userId = process.getuid?.() ?? 0;
  const stop = new AbortController();
  for (const signal of ["SIGINT", "SIGTERM"] as const) process.on(signal, () => stop.abort());
  process.on("SIGHUP", () => stop.abort(hold));
  const out = flags.json ? process.stdout : process.stderr;
  const level = flags.verbose ? "debug" : "error";
  await runAppliance({
    config,
    stateDirectory: flags.state ?? config.state ?? defaultStateDirectory(process.env, userId),
    runDirectory: flags.run ?? config.run ?? defaultRunDirectory(process.env, userId),
    clock: systemClock,
    version,
    logFor: (part) => openLog(part, level, systemClock, (line) => process.stderr.write(`${line}\n`)),
    form: flags.json ? "json" : "text",
    write: (line) => out.write(`${line}\n`),
    stop: stop.signal,
    stopGuests: flags.stopGuests === true,
  });
  // A guest's process is a child that outlives us, and nothing may keep us from ending.
  process.exit(0);
}
