// SPDX-License-Identifier: Apache-2.0
/**
 * Backup and restore of one state directory. Gets directories; a backup is made by `VACUUM INTO` from a read-only
 * connection while the supervisor writes, and counts only once it is flushed, renamed, opened and checked.
 *
 * Journal (with the learned records) and outbox; history and pages can be taken again and are left out. A restore needs the
 * directory for itself, checks every file of the backup first, and sets aside what it replaces: nothing is overwritten.
 * Blocks: command line only.
 */
import type { Database } from "bun:sqlite";
import { copyFileSync, existsSync, renameSync, rmSync } from "node:fs";
import { join } from "node:path";
import { StorageError } from "#errors.ts";
import {
  applicationId,
  asStorageError,
  closeQuietly,
  type FileName,
  openImmutable,
  openReadOnly,
  readNumber,
} from "./database.ts";
import { makeDirectory, syncDirectory, syncFile } from "./flush.ts";
import { journalFile } from "./journal.ts";
import { outboxFile } from "./outbox.ts";
import { claimDirectory, lockFile } from "./ownership.ts";
import { quarantine } from "./quarantine.ts";
import { checkContent, pathOf, tablesOf } from "./storedFile.ts";

const definitions = [journalFile, outboxFile] as const;
export const backupFiles: readonly FileName[] = definitions.map(({ file }) => file);

export type BackedUp = { readonly file: FileName; readonly path: string; readonly rows: number };

/** Writes the files of `directory` into `target`, which must hold none of them yet. @throws StorageError */
export function backUp(directory: string, target: string): BackedUp[] {
  makeDirectory(target);
  const present = definitions.filter(({ file }) => existsSync(pathOf(directory, file)));
  if (present.length === 0) throw new StorageError("storage.notFound", `there is nothing to back up in ${directory}`);
  for (const { file } of present) {
    if (existsSync(pathOf(target, file)))
      throw new StorageError("storage.io", `${pathOf(target, file)} is there already; choose another directory`);
  }
  return present.map(({ file }) => copyOut(directory, file, target));
}

/** Puts the files of the backup `source` into `directory`. @throws StorageError storage.locked while a supervisor runs */
export function restore(source: string, directory: string, atMs: number): BackedUp[] {
  const present = definitions.filter(({ file }) => existsSync(pathOf(source, file)));
  if (present.length === 0) throw new StorageError("storage.notFound", `there is no backup in ${source}`);
  const checked = present.map(({ file }) => ({
    file,
    path: pathOf(source, file),
    rows: checkCopy(pathOf(source, file), file),
  }));
  claimDirectory(directory);
  using _lock = lockFile(join(directory, "owner.lock"));
  return checked.map(({ file, path, rows }) => {
    const target = pathOf(directory, file);
    const unfinished = `${target}.part`;
    copyFileSync(path, unfinished);
    syncFile(unfinished);
    if (existsSync(target)) quarantine(directory, file, atMs);
    renameSync(unfinished, target);
    syncDirectory(directory);
    return { file, path: target, rows };
  });
}

/** Rows of a whole and known file of ours. @throws StorageError storage.corrupt storage.newer storage.io */
export function checkCopy(path: string, file: FileName): number {
  const definition = definitions.find((known) => known.file === file)!;
  let database: Database | undefined;
  try {
    // No WAL comes with a backup, and a check must leave nothing beside it.
    database = openImmutable(path);
    if (readNumber(database, "PRAGMA application_id") !== applicationId) {
      throw new StorageError("storage.corrupt", `${path} is no backup of ours`);
    }
    const version = readNumber(database, "PRAGMA user_version");
    if (version > definition.steps.length + 1) {
      throw new StorageError("storage.newer", `${path} was written by a much later release`, {
        version,
        known: definition.steps.length,
      });
    }
    const lines = checkContent(database, "quick_check");
    if (lines.length > 0) throw new StorageError("storage.corrupt", `${path} is damaged: ${lines[0]}`);
    return tablesOf(definition.steps.slice(0, version)).reduce(
      (sum, table) => sum + readNumber(database!, `SELECT count(*) FROM ${table}`),
      0,
    );
  } catch (cause) {
    throw asStorageError(cause, `check ${path}`);
  } finally {
    closeQuietly(database);
  }
}

function copyOut(directory: string, file: FileName, target: string): BackedUp {
  const unfinished = join(target, `${file}.db.part`);
  try {
    rmSync(unfinished, { force: true });
    {
      using database = openReadOnly(pathOf(directory, file));
      database.query("VACUUM INTO ?").run(unfinished);
    }
    syncFile(unfinished);
    const rows = checkCopy(unfinished, file);
    renameSync(unfinished, pathOf(target, file));
    syncDirectory(target);
    return { file, path: pathOf(target, file), rows };
  } catch (cause) {
    rmSync(unfinished, { force: true });
    throw asStorageError(cause, `back up ${pathOf(directory, file)}`);
  }
}
