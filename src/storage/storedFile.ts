// SPDX-License-Identifier: Apache-2.0
/**
 * One database file from opening to closing: checked at boot, migrated, set aside and made anew where it is damaged. Gets a
 * directory and the definition of a file; gives a connection and what was found.
 *
 * After an error on a flush the kernel may have dropped pages that it still shows as written. Therefore a file that is
 * opened `afterError` must first move its whole WAL into the database, with a flush of its own, and start the WAL anew;
 * only then can a new commit stand on it. Blocks.
 */
import type { Database } from "bun:sqlite";
import { existsSync, statSync } from "node:fs";
import { join } from "node:path";
import { explain, StorageError } from "#errors.ts";
import { asStorageError, closeQuietly, type FileName, fileSettings, openWritable } from "./database.ts";
import { growFile } from "./flush.ts";
import { type Migration, migrate } from "./migrations.ts";
import { type QuarantineSet, quarantine } from "./quarantine.ts";

export type FileDefinition = {
  readonly file: FileName;
  readonly steps: readonly Migration[];
  /** `quick`: every page is read at boot. `schema`: only that the tables are there; the rest is checked in idle. */
  readonly bootCheck: "quick" | "schema";
};

export type OpenedFile = {
  readonly database: Database;
  readonly path: string;
  /** By which it is seen whether the file at `path` is still this one. */
  readonly inode: number;
  /** The damaged file that was here, with the reason; null where there was none. */
  readonly quarantined: { readonly set: QuarantineSet; readonly why: string } | null;
  readonly migratedFrom: number | null;
};

export type OpenConditions = {
  readonly atMs: number;
  readonly freeBytes: number;
  /** An earlier connection to this file met an error that was not about content. */
  readonly afterError: boolean;
  /** Why the file is known to be damaged; null where it is not. */
  readonly damage: string | null;
};

/** A WAL is given its full size where this many times as much is free. */
const ampleRatio = 16;

export const pathOf = (directory: string, file: FileName): string => join(directory, `${file}.db`);

/** @throws StorageError, but never storage.corrupt unless a file that was just made is damaged too */
export function openStored(directory: string, definition: FileDefinition, conditions: OpenConditions): OpenedFile {
  try {
    if (conditions.damage !== null) throw new StorageError("storage.corrupt", conditions.damage);
    return { ...openWhole(directory, definition, conditions), quarantined: null };
  } catch (error) {
    if (!(error instanceof StorageError) || error.code !== "storage.corrupt") throw error;
    const set = quarantine(directory, definition.file, conditions.atMs);
    return { ...openWhole(directory, definition, conditions), quarantined: { set, why: explain(error) } };
  }
}

/** 0 where there is no file. */
export function inodeOf(path: string): number {
  return statSync(path, { throwIfNoEntry: false })?.ino ?? 0;
}

/** One line for each thing that is wrong with the content; empty where nothing is. */
export function checkContent(database: Database, pragma: "quick_check" | "integrity_check"): string[] {
  const linesMax = 20;
  const rows = database.query<Record<string, string>, []>(`PRAGMA ${pragma}(${linesMax})`).all();
  const lines = rows.map((row) => Object.values(row)[0] ?? "");
  return lines.length === 1 && lines[0] === "ok" ? [] : lines;
}

/** Frames in the WAL, and how many of them are in the database already. Changes nothing. */
export function walFrames(database: Database): { written: number; checkpointed: number } {
  const row = database
    .query<{ busy: number; log: number; checkpointed: number }, []>("PRAGMA wal_checkpoint(NOOP)")
    .get();
  return { written: Math.max(0, row?.log ?? 0), checkpointed: Math.max(0, row?.checkpointed ?? 0) };
}

/** Copies the WAL into the database as far as readers allow. False where something is left. */
export function checkpointWal(database: Database, mode: "PASSIVE" | "TRUNCATE"): boolean {
  const row = database
    .query<{ busy: number; log: number; checkpointed: number }, []>(`PRAGMA wal_checkpoint(${mode})`)
    .get();
  return row !== null && row.busy === 0 && row.log === row.checkpointed;
}

/**
 * Gives the WAL real blocks up to `bytes`, and keeps them when it starts anew, so that commits overwrite: beyond the end of
 * the file each commit changes the file's size as well, which costs as much as the flush. False where room is not ample.
 */
export function growWal({ database, path }: OpenedFile, bytes: number, freeBytes: number): boolean {
  const wal = `${path}-wal`;
  if (freeBytes < bytes * ampleRatio) return false;
  try {
    if (!existsSync(wal) || statSync(wal).size === 0 || statSync(wal).size >= bytes) return true;
    database.run(`PRAGMA journal_size_limit = ${bytes}`);
    growFile(wal, bytes);
    return true;
  } catch {
    // Only speed is lost: commits make the file grow as they go.
    return false;
  }
}

function openWhole(
  directory: string,
  definition: FileDefinition,
  conditions: OpenConditions,
): Omit<OpenedFile, "quarantined"> {
  const path = pathOf(directory, definition.file);
  refuseLostContent(path);
  const database = openWritable(path, fileSettings[definition.file]);
  try {
    settleWal(database, path, conditions.afterError);
    const { from, to } = migrate(database, path, definition.steps, conditions.freeBytes);
    if (from > 0) bootCheck(database, path, definition);
    return { database, path, inode: inodeOf(path), migratedFrom: from === to || from === 0 ? null : from };
  } catch (cause) {
    closeQuietly(database);
    throw asStorageError(cause, `open ${path}`);
  }
}

/** SQLite would take an empty file for a new one and delete the WAL that may hold everything. */
function refuseLostContent(path: string): void {
  const wal = `${path}-wal`;
  if (!existsSync(path) || statSync(path).size > 0 || !existsSync(wal) || statSync(wal).size === 0) return;
  throw new StorageError("storage.corrupt", `${path} is empty but its WAL is not`, { walBytes: statSync(wal).size });
}

function settleWal(database: Database, path: string, afterError: boolean): void {
  try {
    if (checkpointWal(database, "TRUNCATE") || !afterError) return;
  } catch (cause) {
    const error = asStorageError(cause, `checkpoint ${path}`);
    // At an ordinary start the WAL may as well stay: on a full disk it is the only place where commits still find room.
    if (afterError || error.code === "storage.corrupt") throw error;
    return;
  }
  throw new StorageError("storage.io", `a reader keeps ${path} from being settled after an error`);
}

function bootCheck(database: Database, path: string, definition: FileDefinition): void {
  if (definition.bootCheck === "quick") {
    const lines = checkContent(database, "quick_check");
    if (lines.length > 0)
      throw new StorageError("storage.corrupt", `${path} is damaged: ${lines[0]}`, { lines: lines.length });
  }
  const names = database.query<{ name: string }, []>("SELECT name FROM sqlite_schema WHERE type = 'table'").all();
  const present = new Set(names.map(({ name }) => name));
  for (const table of tablesOf(definition.steps)) {
    if (!present.has(table)) throw new StorageError("storage.corrupt", `${path} has no table ${table}`);
    database.query(`SELECT 1 FROM ${table} LIMIT 1`).get();
  }
}

/** Names of the tables that the steps make. */
export const tablesOf = (steps: readonly Migration[]): string[] =>
  steps.flatMap((step) => [...step.sql.matchAll(/CREATE TABLE (\w+)/g)].map((match) => match[1]!));
