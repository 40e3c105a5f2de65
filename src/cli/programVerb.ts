// SPDX-License-Identifier: Apache-2.0
/**
 * `holdfast program VERB`: asks the supervisors on this box about their programs, and tells them what to do.
 *
 * Answers come from `holdfast run` and from every `holdfast guard`. Exit code 0 when done, else the supervisor's reason.
 */
import type { Command } from "commander";
import { programCommands } from "#appliance/control.ts";
import { doorOf, listPrograms } from "#appliance/programDoors.ts";
import type { ProgramStatus } from "#appliance/programs/programStatus.ts";
import { ConfigError } from "#errors.ts";
import { defaultRunDirectory } from "#storage/ownership.ts";
import { table } from "./table.ts";

export const runOption = [
  "--run <dir>",
  "run directory of the supervisor (default: /run/holdfast, or your own)",
] as const;
const summaries = {
  start: "start a program that is stopped or in error",
  stop: "stop a program: SIGTERM first, then by force",
  restart: "stop a program and start it again",
} as const;

type Flags = { readonly run?: string; readonly json?: true };

export function addProgram(root: Command): void {
  const program = root.command("program").description("list, show, start, stop and restart programs");
  program
    .command("list")
    .description("all programs")
    .option(...runOption)
    .option("--json", "one JSON object a line")
    .action(list);
  program
    .command("show")
    .description("one program in full")
    .argument("<name>")
    .option(...runOption)
    .option("--json", "as JSON")
    .action(show);
  for (const command of programCommands) {
    program
      .command(command)
      .description(summaries[command])
      .argument("<name>")
      .option(...runOption)
      .action(async (name: string, flags: Flags) => {
        const client = await doorOf(runDirectoryOf(flags), name);
        process.stdout.write(`${brief(await client.program(name, command))}\n`);
      });
  }
}

export const runDirectoryOf = ({ run }: { readonly run?: string }): string =>
  run ?? defaultRunDirectory(process.env, process.getuid?.() ?? 0);

export const brief = ({ name, phase, pid, why }: ProgramStatus): string =>
  `${name}: ${phase}${pid === null ? "" : `, process ${pid}`}${why === null ? "" : `: ${why}`}`;

async function list(flags: Flags): Promise<void> {
  const programs = await listPrograms(runDirectoryOf(flags));
  if (flags.json) for (const program of programs) process.stdout.write(`${JSON.stringify(program)}\n`);
  else if (programs.length === 0) process.stdout.write("No program is guarded here now.\n");
  else
    process.stdout.write(
      table(["PROGRAM", "PHASE", "GUARDED", "PROCESS", "FORKS", "RESTARTS", "WHY"], programs.map(row)),
    );
}

const row = (program: ProgramStatus): string[] => [
  program.name,
  program.phase,
  program.released ? "released" : program.guarded ? "yes" : "no",
  program.pid === null ? "-" : String(program.pid),
  String(program.children),
  `${program.attempts} of ${program.attemptsMax}`,
  program.why ?? "-",
];

async function show(name: string, flags: Flags): Promise<void> {
  const program = (await listPrograms(runDirectoryOf(flags))).find((one) => one.name === name);
  if (program === undefined) throw new ConfigError("config.argument", `no program called ${name} is guarded here now`);
  if (flags.json) {
    process.stdout.write(`${JSON.stringify(program)}\n`);
    return;
  }
  const { lastFault } = program;
  const facts: readonly [string, string][] = [
    ["program", program.name],
    ["phase", program.why === null ? program.phase : `${program.phase}: ${program.why}`],
    ["process", program.pid === null ? "none" : String(program.pid)],
    ["guarded", program.released ? "no: released for another debugger" : program.guarded ? "yes" : "no"],
    ["forks", `${program.children} guarded`],
    ["restarts", `${program.attempts} of ${program.attemptsMax} in the window`],
    ["last fault", lastFault === null ? "none" : `${new Date(lastFault.atMs).toISOString()} ${lastFault.why}`],
    ["run directory", program.runDirectory],
  ];
  for (const [label, text] of facts) process.stdout.write(`${label.padEnd(14)} ${text}\n`);
}
