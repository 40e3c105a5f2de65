// SPDX-License-Identifier: Apache-2.0
/**
 * `holdfast release NAME`: frees a guarded program for another debugger, and takes it back. A program has one tracer.
 */
import type { Command } from "commander";
import { doorOf } from "#appliance/programDoors.ts";
import { runDirectoryOf, runOption } from "./programVerb.ts";

type Flags = { readonly run?: string; readonly takeBack?: true };

export function addRelease(program: Command): void {
  program
    .command("release")
    .description("free a guarded program for another debugger (gdb, strace), and take it back")
    .argument("<name>", "as holdfast program list shows it")
    .option("--take-back", "guard it again; the other debugger must have let go")
    .option(...runOption)
    .action(release);
}

async function release(name: string, flags: Flags): Promise<void> {
  const client = await doorOf(runDirectoryOf(flags), name);
  const { pid } = await client.program(name, flags.takeBack ? "take-back" : "release");
  process.stdout.write(
    flags.takeBack
      ? `${name} (process ${pid}) is guarded again\n`
      : `${name} (process ${pid}) is free and not guarded; take it back with: holdfast release ${name} --take-back\n`,
  );
}
