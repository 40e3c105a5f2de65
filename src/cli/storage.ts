// SPDX-License-Identifier: Apache-2.0
/**
 * `holdfast storage status|verify|backup|restore`: what is kept, whether it is whole, a copy of it, and back.
 *
 * All but restore work while supervisors run. Exit code 0; 1 where verify found damage; else that of the error.
 */
import { join, resolve } from "node:path";
import { type Command, InvalidArgumentError } from "commander";
import { systemClock } from "#clock.ts";
import { StorageError } from "#errors.ts";
import { type BackedUp, backUp, restore } from "#storage/backup.ts";
import { type DirectoryFacts, inspectDirectory, stateDirectories, verifyDirectory } from "#storage/inspect.ts";
import { defaultRunDirectory, defaultStateDirectory, guardDirectory } from "#storage/ownership.ts";
import { readDeviceWear } from "#storage/wear.ts";
import { exitCodes } from "./exitCodes.ts";
import { table } from "./table.ts";

type Place = { readonly directory: string; readonly guard: string };
type Flags = { state?: string; run?: string; name?: string; json?: true };

const userId = (): number => process.getuid?.() ?? 0;

export function addStorage(program: Command): void {
  const storage = program.command("storage").description("what is kept on disk: its state, checks, backup and restore");
  const add = (name: string, about: string): Command =>
    storage
      .command(name)
      .description(about)
      .option("--state <dir>", "state directory (default: /var/lib/holdfast, or your own)")
      .option("--name <guard>", "only the guard of this name", readName);
  add("status", "files, room, wear, and what the running supervisors say")
    .option("--run <dir>", "run directory (default: /run/holdfast, or your own)")
    .option("--json", "one JSON object a line, one for each directory")
    .action(status);
  add("verify", "read every page and every row; exit code 1 where something is damaged")
    .option("--full", "compare indexes with their tables too")
    .option("--json", "one JSON object a line, one for each file")
    .action(verify);
  add("backup", "copy journal, learned records and outbox, while they are in use")
    .argument("<dir>", "where to; must not hold a backup yet")
    .action(backup);
  add("restore", "put a backup back; no supervisor may be running; what is there is set aside")
    .argument("<dir>", "what `backup` made")
    .action(putBack);
}

function status(flags: Flags): void {
  const runDirectory = flags.run ?? defaultRunDirectory(process.env, userId());
  const found = places(flags).map((place) => inspectDirectory(place, runDirectory));
  if (flags.json) {
    for (const facts of found) print(JSON.stringify(facts));
    return;
  }
  if (found.length === 0) print(`Nothing is kept below ${stateOf(flags)}.`);
  for (const facts of found) print(describe(facts));
  for (const { device, lifeUsedPercent, reserve } of readDeviceWear()) {
    print(
      `${device}: ${lifeUsedPercent === null ? "life used not told" : `up to ${lifeUsedPercent} % of its life used`}, reserve ${reserve ?? "not told"}`,
    );
  }
}

function verify(flags: Flags & { full?: true }): void {
  let damaged = false;
  for (const { directory } of places(flags)) {
    for (const check of verifyDirectory(directory, flags.full === true)) {
      damaged ||= check.problems.length > 0;
      if (flags.json) print(JSON.stringify(check));
      else
        print(
          check.problems.length === 0
            ? `${check.path}: whole`
            : `${check.path}: DAMAGED\n  ${check.problems.join("\n  ")}`,
        );
    }
  }
  if (damaged) process.exitCode = exitCodes.no;
}

function backup(directory: string, flags: Flags): void {
  const found = places(flags);
  if (found.length === 0)
    throw new StorageError("storage.notFound", `there is nothing to back up below ${stateOf(flags)}`);
  for (const place of found) tellCopies(backUp(place.directory, inBackup(resolve(directory), place)));
}

function putBack(directory: string, flags: Flags): void {
  const source = resolve(directory);
  const found = stateDirectories(source).filter(({ guard }) => flags.name === undefined || guard === flags.name);
  if (found.length === 0) throw new StorageError("storage.notFound", `there is no backup in ${source}`);
  for (const place of found) {
    const target = place.guard === "" ? stateOf(flags) : guardDirectory(stateOf(flags), place.guard);
    tellCopies(restore(place.directory, target, systemClock.wallMs()));
  }
}

const stateOf = (flags: Flags): string => resolve(flags.state ?? defaultStateDirectory(process.env, userId()));

/** A backup has the layout of STATE. */
const inBackup = (target: string, { guard }: Place): string => (guard === "" ? target : guardDirectory(target, guard));

function places(flags: Flags): Place[] {
  const found = stateDirectories(stateOf(flags)).filter(
    ({ guard }) => flags.name === undefined || guard === flags.name,
  );
  if (found.length === 0 && flags.name !== undefined) {
    throw new StorageError(
      "storage.notFound",
      `no guard ${JSON.stringify(flags.name)} has anything in ${join(stateOf(flags), "guards")}`,
    );
  }
  return found;
}

function describe({ guard, directory, holder, state, files, quarantine, space, fullness }: DirectoryFacts): string {
  const who = holder === null ? "no supervisor is running" : `supervisor ${holder}`;
  const mood = state === null ? "" : `, ${state.kind}${state.why === "" ? "" : ` (${state.why})`}`;
  const lost = Object.entries(state?.dropped ?? {}).map(([kind, count]) => `${count} ${kind}`);
  const lines = [
    `${guard || "(all)"}: ${who}${mood}`,
    `  in ${directory}, ${space === null ? "room not told" : `${size(space.freeBytes)} free (${fullness})`}`,
    ...(lost.length > 0 ? [`  lost since commits last worked: ${lost.join(", ")}`] : []),
    ...(state !== null && state.bytesToday > 0
      ? [`  written since start, today: ${size(state.bytesToday)}${state.overBudget ? ", OVER BUDGET" : ""}`]
      : []),
    ...quarantine.map((set) => `  set aside as damaged: ${set.directory} (${size(set.bytes)})`),
  ];
  const rows = files.map((file) => [
    file.file,
    size(file.bytes),
    size(file.walBytes),
    String(file.rows),
    file.version > file.known ? `${file.version} (newer)` : String(file.version),
    file.trouble === "" ? "readable" : file.trouble,
  ]);
  return `${lines.join("\n")}\n${table(
    ["  FILE", "SIZE", "WAL", "ROWS", "VERSION", ""],
    rows.map(([first, ...rest]) => [`  ${first}`, ...rest]),
  )}`;
}

function tellCopies(copies: readonly BackedUp[]): void {
  for (const { path, rows } of copies) print(`${path}: ${rows} rows, checked`);
}

function size(bytes: number): string {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  const rank = Math.min(units.length - 1, bytes < 1 ? 0 : Math.floor(Math.log2(bytes) / 10));
  return `${(bytes / 1024 ** rank).toFixed(rank === 0 ? 0 : 1)} ${units[rank]}`;
}

function readName(text: string): string {
  if (text === "" || text.includes("/") || text.startsWith(".")) throw new InvalidArgumentError("The name of a guard.");
  return text;
}

const print = (text: string): void => {
  process.stdout.write(text.endsWith("\n") ? text : `${text}\n`);
};
