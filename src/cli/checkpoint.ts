// SPDX-License-Identifier: Apache-2.0
/**
 * `holdfast checkpoint VERB`: takes, shows, checks and moves checkpoints of guests, and brings guests back from them.
 *
 * list, show, verify and export read the state directory; the others ask the running supervisor. Exit code 0 when done, 1
 * where `verify` found damage.
 */
import { resolve } from "node:path";
import type { Command } from "commander";
import { exportStored, storedCheckpoint, storedCheckpoints, verifyStored } from "#appliance/checkpointFiles.ts";
import { ControlClient } from "#appliance/controlClient.ts";
import { defaultRunDirectory, defaultStateDirectory } from "#storage/ownership.ts";
import { table } from "./table.ts";

const runOption = ["--run <dir>", "run directory of the supervisor (default: /run/holdfast, or your own)"] as const;
const stateOption = ["--state <dir>", "state directory (default: /var/lib/holdfast, or your own)"] as const;

type Flags = { readonly run?: string; readonly state?: string; readonly json?: true; readonly guest?: string };

export function addCheckpoint(program: Command): void {
  const checkpoint = program
    .command("checkpoint")
    .description("take, list, check, move and delete checkpoints of guests, and go back to them");
  addAsking(checkpoint);
  addReading(checkpoint);
}

/** What the running supervisor does. */
function addAsking(checkpoint: Command): void {
  const ask = (
    verb: string,
    argument: string,
    about: string,
    act: (name: string, flags: Flags) => Promise<void>,
  ): void => {
    checkpoint
      .command(verb)
      .description(about)
      .argument(argument)
      .option(...runOption)
      .option("--json", "as JSON")
      .action(act);
  };
  ask("create", "<guest>", "take a checkpoint of a running guest; it goes on", create);
  ask("restore", "<guest-or-checkpoint>", "take a guest back to a checkpoint (its last good one)", restore);
  ask("delete", "<checkpoint>", "delete a checkpoint", async (id, flags) => {
    await clientFor(flags).checkpoint(id, "delete");
    process.stdout.write(`${id}: deleted\n`);
  });
  for (const verb of ["pin", "unpin"] as const) {
    ask(
      verb,
      "<checkpoint>",
      verb === "pin" ? "never delete it by itself" : "it may be deleted again",
      async (id, flags) => {
        await clientFor(flags).checkpoint(id, verb);
        process.stdout.write(`${id}: ${verb === "pin" ? "pinned" : "no longer pinned"}\n`);
      },
    );
  }
  ask("import", "<file>", "take in a file that export wrote", async (file, flags) => {
    const { ids } = (await clientFor(flags).checkpoint(resolve(file), "import")) as { ids: string[] };
    for (const id of ids) process.stdout.write(`${id}: imported\n`);
  });
}

/** What needs no supervisor. */
function addReading(checkpoint: Command): void {
  checkpoint
    .command("list")
    .description("all checkpoints, newest first")
    .option("--guest <name>", "of one guest")
    .option(...stateOption)
    .option("--json", "one JSON object a line")
    .action(list);
  checkpoint
    .command("show")
    .description("one checkpoint in full")
    .argument("<checkpoint>")
    .option(...stateOption)
    .option("--json", "as JSON")
    .action(show);
  checkpoint
    .command("verify")
    .description("read every page of a checkpoint and compare it")
    .argument("<checkpoint>")
    .option(...stateOption)
    .action(verify);
  checkpoint
    .command("export")
    .description("write one checkpoint to a file of its own")
    .argument("<checkpoint>")
    .argument("<file>")
    .option(...stateOption)
    .action((id: string, file: string, flags: Flags) => {
      const extents = exportStored(stateOf(flags), id, resolve(file));
      process.stdout.write(`${id}: ${extents} extents written to ${file}\n`);
    });
}

const clientFor = (flags: Flags): ControlClient =>
  new ControlClient(flags.run ?? defaultRunDirectory(process.env, process.getuid?.() ?? 0));
const stateOf = (flags: Flags): string => flags.state ?? defaultStateDirectory(process.env, process.getuid?.() ?? 0);

async function create(guest: string, flags: Flags): Promise<void> {
  const report = (await clientFor(flags).checkpoint(guest, "create")) as Record<string, number | string>;
  if (flags.json) process.stdout.write(`${JSON.stringify(report)}\n`);
  else {
    const added = mebibytes(Number(report.addedBytes));
    process.stdout.write(
      `${report.id}: taken; ${guest} stood still for ${Number(report.heldMs).toFixed(1)} ms, ${added} added\n`,
    );
  }
}

async function restore(name: string, flags: Flags): Promise<void> {
  const status = (await clientFor(flags).checkpoint(name, "restore")) as {
    name: string;
    phase: string;
    pid: number | null;
  };
  if (flags.json) process.stdout.write(`${JSON.stringify(status)}\n`);
  else process.stdout.write(`${status.name}: ${status.phase}${status.pid === null ? "" : `, process ${status.pid}`}\n`);
}

function list(flags: Flags): void {
  const all = storedCheckpoints(stateOf(flags)).filter(
    ({ guest }) => flags.guest === undefined || guest === flags.guest,
  );
  if (flags.json) for (const each of all) process.stdout.write(`${JSON.stringify(each)}\n`);
  else if (all.length === 0) process.stdout.write("There are no checkpoints.\n");
  else {
    const rows = all.map(({ id, guest, atMs, state, pinned, contentBytes, addedBytes }) => [
      ...[id, guest, new Date(atMs).toISOString(), pinned ? `${state}, pinned` : state],
      ...[mebibytes(contentBytes), mebibytes(addedBytes)],
    ]);
    process.stdout.write(table(["CHECKPOINT", "GUEST", "TAKEN", "STATE", "CONTENT", "ADDED"], rows));
  }
}

function show(id: string, flags: Flags): void {
  const facts = storedCheckpoint(stateOf(flags), id);
  if (flags.json) {
    process.stdout.write(`${JSON.stringify(facts)}\n`);
    return;
  }
  const lines: readonly [string, string][] = [
    ["checkpoint", facts.id],
    ["guest", facts.guest],
    ["taken", new Date(facts.atMs).toISOString()],
    ["state", facts.pinned ? `${facts.state}, pinned` : facts.state],
    ["made by", `Cloud Hypervisor ${facts.build} on ${facts.architecture}`],
    ["memory", `${mebibytes(facts.ramBytes)}, ${mebibytes(facts.contentBytes)} with content`],
    ["added", mebibytes(facts.addedBytes)],
    ["disks", String(facts.disks)],
    ["stood still", `${facts.heldMs} ms`],
  ];
  for (const [label, text] of lines) process.stdout.write(`${label.padEnd(14)} ${text}\n`);
}

function verify(id: string, flags: Flags): void {
  const { pages, problems } = verifyStored(stateOf(flags), id);
  for (const problem of problems) process.stdout.write(`${id}: ${problem}\n`);
  if (problems.length === 0) process.stdout.write(`${id}: ${pages} pages, all as they were stored\n`);
  else process.exitCode = 1;
}

const mebibytes = (bytes: number): string => `${(bytes / 2 ** 20).toFixed(1)} MiB`;
