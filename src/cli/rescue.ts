// SPDX-License-Identifier: Apache-2.0
/**
 * `holdfast rescue list|show|export|import|forget`: what was learned of each fault site, and what the next fault there gets.
 *
 * Works while supervisors run: they take changes up at once. Exit code 0; else that of the error.
 */
import { readFileSync, statSync, writeFileSync } from "node:fs";
import { resolve } from "node:path";
import type { Command } from "commander";
import { bestEdit, type EditRecord, recordId, type SiteRecord } from "#appliance/rescue/rescueRecord.ts";
import { orderIn, recordsIn } from "#appliance/rescue/rescueShelf.ts";
import { exportRecords, fileBytesMax, importRecords } from "#appliance/rescue/rescueText.ts";
import { toJson } from "#bytes.ts";
import { systemClock } from "#clock.ts";
import { ConfigError, StorageError } from "#errors.ts";
import { stateDirectories } from "#storage/inspect.ts";
import { defaultStateDirectory, guardDirectory } from "#storage/ownership.ts";
import { table } from "./table.ts";

type Flags = { readonly state?: string; readonly name?: string; readonly json?: true };
type Place = { readonly directory: string; readonly guard: string };
type Kept = Place & { readonly id: string; readonly record: SiteRecord };

export function addRescue(program: Command): void {
  const rescue = program.command("rescue").description("what was learned of each place where a program has faulted");
  const add = (name: string, about: string): Command =>
    rescue
      .command(name)
      .description(about)
      .option("--state <dir>", "state directory (default: /var/lib/holdfast, or your own)")
      .option("--name <guard>", "only the guard of this name");
  add("list", "what the next fault at each known place gets first")
    .option("--json", "one JSON object a line")
    .action(list);
  add("show", "one place: everything that was tried there, and how it ended")
    .argument("<id>", "its id, or the beginning of it")
    .option("--json", "as JSON")
    .action(show);
  add("export", "write records to a file, for other boxes")
    .argument("<file>", "a file, or - for standard output")
    .argument("[id...]", "only these (default: all)")
    .action(exportTo);
  add("import", "take up records that another box has exported; what was learned here goes before them")
    .argument("<file>", "what `export` wrote")
    .action(importFrom);
  add("forget", "forget what was learned; the next fault at the place is met as if it were the first")
    .argument("[id...]", "ids, or their beginnings")
    .option("--all", "all of them")
    .action(forget);
}

function list(flags: Flags): void {
  const found = kept(flags);
  if (flags.json) {
    for (const { guard, id, record } of found) print(toJson({ id, guard, ...record }));
    return;
  }
  if (found.length === 0) {
    print(`Nothing was learned yet below ${stateOf(flags)}.`);
    return;
  }
  const rows = found.map(({ guard, id, record }) => {
    const best = bestEdit(record);
    const tries = sumOf(record.edits);
    return [
      ...[id, guard || "-", record.program || "-", record.signal, short(record.site.fault)],
      best === null ? "nothing has worked" : short(best.key),
      `${tries.clean}/${tries.degraded}/${tries.failed}`,
      new Date(record.lastFaultMs).toISOString().slice(0, 16).replace("T", " "),
    ];
  });
  print(table(["ID", "GUARD", "PROGRAM", "SIGNAL", "SITE", "FIRST", "CLEAN/DEGRADED/FAILED", "LAST FAULT"], rows));
}

function show(id: string, flags: Flags): void {
  for (const { guard, id: whole, record } of named([id], flags)) {
    if (flags.json) {
      print(toJson({ id: whole, guard, ...record }, 1));
      continue;
    }
    const best = bestEdit(record);
    const rows = record.edits.map((edit) => [
      edit === best ? "->" : "",
      ...[edit.key, String(edit.clean), String(edit.degraded), String(edit.failed), edit.last],
      edit.imported ? "another box" : "here",
    ]);
    print(
      [
        `Record:   ${whole}${guard === "" ? "" : ` of guard ${guard}`}`,
        `Program:  ${record.program || "not known"} (build ${record.build || "without id"}, ${record.architecture})`,
        `Site:     ${record.site.fault}`,
        `Boundary: ${record.site.boundary || "none"}`,
        `Signal:   ${record.signal}, last at ${new Date(record.lastFaultMs).toISOString()}`,
        "",
        table(["", "EDIT", "CLEAN", "DEGRADED", "FAILED", "LAST", "LEARNED"], rows),
      ].join("\n"),
    );
  }
}

function exportTo(file: string, ids: readonly string[], flags: Flags): void {
  const found = ids.length === 0 ? kept(flags) : named(ids, flags);
  const text = exportRecords(found.map(({ record }) => record));
  if (file === "-") {
    print(text);
    return;
  }
  try {
    writeFileSync(file, text, { mode: 0o600 });
  } catch (cause) {
    throw new ConfigError("config.argument", `cannot write ${file}`, {}, cause);
  }
  print(`${file}: ${found.length} record${found.length === 1 ? "" : "s"}`);
}

async function importFrom(file: string, flags: Flags): Promise<void> {
  const records = importRecords(readBytes(file));
  const { directory, guard } = onePlace(flags);
  await orderIn(directory, { kind: "import", records }, systemClock);
  print(`${records.length} record${records.length === 1 ? "" : "s"} taken up by ${guard || directory}`);
}

async function forget(ids: readonly string[], flags: Flags & { readonly all?: true }): Promise<void> {
  if ((ids.length === 0) === (flags.all !== true)) {
    throw new ConfigError("config.argument", "say which records to forget, or --all, not both");
  }
  const found = flags.all ? kept(flags) : named(ids, flags);
  // What a supervisor has learned just now may not be on the disk yet: "all" is for it to say.
  const directories = new Set((flags.all ? places(flags) : found).map((one) => one.directory));
  for (const directory of directories) {
    const here = found.filter((one) => one.directory === directory).map(({ id }) => id);
    await orderIn(directory, { kind: "forget", ids: flags.all ? "all" : here }, systemClock);
  }
  print(`forgotten: ${found.length}`);
}

const stateOf = (flags: Flags): string =>
  resolve(flags.state ?? defaultStateDirectory(process.env, process.getuid?.() ?? 0));

const places = (flags: Flags): Place[] =>
  stateDirectories(stateOf(flags)).filter(({ guard }) => flags.name === undefined || guard === flags.name);

const kept = (flags: Flags): Kept[] =>
  places(flags).flatMap((place) =>
    recordsIn(place.directory).map((record) => ({ ...place, id: recordId(record), record })),
  );

/** The records that the words name. @throws StorageError storage.notFound where a word names none, or several */
function named(words: readonly string[], flags: Flags): Kept[] {
  const all = kept(flags);
  return words.flatMap((word) => {
    const found = /^[0-9a-f]{1,12}$/.test(word) ? all.filter(({ id }) => id.startsWith(word)) : [];
    const ids = [...new Set(found.map(({ id }) => id))];
    if (ids.length === 1) return found;
    const what = ids.length === 0 ? "names no record" : `names ${ids.length} records, such as ${ids[0]} and ${ids[1]}`;
    throw new StorageError(
      "storage.notFound",
      `${JSON.stringify(word.slice(0, 64))} ${what}; see holdfast rescue list`,
    );
  });
}

/** Where imported records go: to the guard that is named, or to the only one there is. */
function onePlace(flags: Flags): Place {
  const state = stateOf(flags);
  if (flags.name !== undefined) return { directory: guardDirectory(state, flags.name), guard: flags.name };
  const found = places(flags);
  if (found.length === 1) return found[0]!;
  const names = found.map(({ guard, directory }) => guard || directory).join(", ");
  const why = found.length === 0 ? `there is no guard below ${state} yet` : `there are several: ${names}`;
  throw new ConfigError("config.argument", `say for which guard by --name: ${why}`);
}

function readBytes(file: string): Uint8Array {
  try {
    const { size } = statSync(file);
    if (size <= fileBytesMax) return readFileSync(file);
  } catch (cause) {
    throw new ConfigError("config.argument", `cannot read ${file}`, {}, cause);
  }
  throw new ConfigError("config.argument", `${file} has more than ${fileBytesMax} bytes: no file of rescue records`);
}

function sumOf(edits: readonly EditRecord[]): Pick<EditRecord, "clean" | "degraded" | "failed"> {
  const sum = (which: "clean" | "degraded" | "failed"): number => edits.reduce((total, edit) => total + edit[which], 0);
  return { clean: sum("clean"), degraded: sum("degraded"), failed: sum("failed") };
}

/** Build-ids by their first 8 digits. */
const short = (text: string): string => text.replace(/\b([0-9a-f]{8})[0-9a-f]{8,}(?=\+)/g, "$1…");

const print = (text: string): void => void process.stdout.write(text.endsWith("\n") ? text : `${text}\n`);
