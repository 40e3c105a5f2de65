// SPDX-License-Identifier: Apache-2.0
/**
 * Forward-only migrations. Gets a connection and the numbered steps of its file; leaves the file at the newest version.
 *
 * The version is `user_version`. Each step is one transaction with a check at its end, so a death anywhere in it leaves the
 * version before or the version after. Steps only add, so that the previous release still reads and writes; a file of the
 * next release is used as it is, one from two or more ahead is not touched. Nothing is ever migrated back.
 */
import type { Database } from "bun:sqlite";
import { existsSync, renameSync, rmSync, statSync } from "node:fs";
import { StorageError } from "#errors.ts";
import { applicationId, asStorageError, readNumber, transact } from "./database.ts";

export type Migration = {
  readonly name: string;
  readonly sql: string;
  /** Gives 1 where the step has done its work. */
  readonly check: string;
};

/** Releases ahead of ours whose files we still read and write. */
const versionsAheadMax = 1;
/** A copy is made only where this many times its size is free. */
const copyRoomRatio = 3;

/** @throws StorageError storage.newer, storage.corrupt where a check fails, or what the disk said */
export function migrate(
  database: Database,
  path: string,
  steps: readonly Migration[],
  freeBytes: number,
): { from: number; to: number; copy: string | null } {
  const from = readNumber(database, "PRAGMA user_version");
  if (from > steps.length + versionsAheadMax) {
    throw new StorageError(
      "storage.newer",
      `${path} was written by a much later release and is left alone; update this one`,
      {
        version: from,
        known: steps.length,
      },
    );
  }
  if (from >= steps.length) return { from, to: from, copy: null };
  const copy = from > 0 ? copyBefore(database, path, from, freeBytes) : null;
  for (let version = from; version < steps.length; version += 1) apply(database, path, steps[version]!, version + 1);
  return { from, to: steps.length, copy };
}

/** Where the copy made before leaving `version` is. */
export const copyPath = (path: string, version: number): string => `${path}.before-${version + 1}`;

function apply(database: Database, path: string, step: Migration, version: number): void {
  try {
    transact(database, () => {
      database.run(step.sql);
      if (version === 1) database.run(`PRAGMA application_id = ${applicationId}`);
      database.run(`PRAGMA user_version = ${version}`);
      if (readNumber(database, step.check) === 1) return;
      throw new StorageError("storage.corrupt", `step ${version} (${step.name}) of ${path} did not do its work`);
    });
  } catch (cause) {
    throw asStorageError(cause, `migrate ${path} to version ${version} (${step.name})`);
  }
}

function copyBefore(database: Database, path: string, version: number, freeBytes: number): string | null {
  const copy = copyPath(path, version);
  if (existsSync(copy) || statSync(path).size * copyRoomRatio > freeBytes) return null;
  const unfinished = `${copy}.part`;
  try {
    rmSync(unfinished, { force: true });
    database.query("VACUUM INTO ?").run(unfinished);
    renameSync(unfinished, copy);
    return copy;
  } catch (cause) {
    rmSync(unfinished, { force: true });
    const error = asStorageError(cause, `copy ${path}`);
    if (error.code === "storage.corrupt") throw error;
    // The copy is a courtesy: without room for it the step is still one transaction.
    return null;
  }
}
