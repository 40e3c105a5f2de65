// SPDX-License-Identifier: Apache-2.0
/**
 * One checkpoint as a file of its own. Gets a state directory and the id of a sealed checkpoint; gives a page file that
 * holds it, what it reaches, and nothing else. It counts only once it is flushed, checked and renamed.
 *
 * Read-only on the source, which its checkpoint Worker may be writing; one read transaction for the whole copy. Blocks:
 * command line only.
 */
import { Database } from "bun:sqlite";
import { existsSync, renameSync, rmSync } from "node:fs";
import { dirname } from "node:path";
import { StorageError } from "#errors.ts";
import {
  applicationId,
  asStorageError,
  closeQuietly,
  fileSettings,
  openReadOnly,
  readNumber,
  transact,
} from "./database.ts";
import { syncDirectory, syncFile } from "./flush.ts";
import { pagesFile, unpackNumbers } from "./pageFile.ts";
import { checkContent, pathOf } from "./storedFile.ts";

type Row = Record<string, string | number | Uint8Array>;

/** Gives the number of extents in the new file. @throws StorageError storage.notFound where there is no such checkpoint */
export function exportCheckpoint(directory: string, checkpoint: string, target: string): number {
  if (existsSync(target)) throw new StorageError("storage.io", `${target} is there already`);
  const unfinished = `${target}.part`;
  rmSync(unfinished, { force: true });
  let copy: Database | undefined;
  try {
    using source = openReadOnly(pathOf(directory, pagesFile.file));
    copy = new Database(unfinished, { create: true, readwrite: true, strict: true });
    copy.run(`PRAGMA page_size = ${fileSettings.pages.pageBytes}`);
    copy.run(`PRAGMA auto_vacuum = ${fileSettings.pages.autoVacuum}`);
    const extents = copyCheckpoint(source, copy, checkpoint);
    const lines = checkContent(copy, "quick_check");
    if (lines.length > 0)
      throw new StorageError("storage.corrupt", `the copy in ${unfinished} is damaged: ${lines[0]}`);
    copy.close();
    syncFile(unfinished);
    renameSync(unfinished, target);
    syncDirectory(dirname(target));
    return extents;
  } catch (cause) {
    closeQuietly(copy);
    rmSync(unfinished, { force: true });
    throw asStorageError(cause, `export checkpoint ${checkpoint} to ${target}`);
  }
}

function copyCheckpoint(source: Database, copy: Database, checkpoint: string): number {
  source.run("BEGIN");
  if (readNumber(source, "SELECT count(*) FROM checkpoint WHERE id = ?", checkpoint) === 0) {
    throw new StorageError("storage.notFound", `there is no sealed checkpoint ${JSON.stringify(checkpoint)}`);
  }
  return transact(copy, () => {
    for (const step of pagesFile.steps) copy.run(step.sql);
    copy.run(`PRAGMA application_id = ${applicationId}`);
    copy.run(`PRAGMA user_version = ${pagesFile.steps.length}`);
    const { seed } = source.query<{ seed: Uint8Array }, []>("SELECT seed FROM page_seed").get()!;
    copy.query("UPDATE page_seed SET seed = ?").run(seed);
    copyRows(source, copy, "checkpoint", "id = ?", checkpoint);
    copyRows(source, copy, "map_chunk", `id IN (${chunksOf})`, checkpoint);
    copyRows(source, copy, "checkpoint_chunk", "checkpoint = ?", checkpoint);
    const lists = source.query<{ extents: Uint8Array }, [string]>(
      `SELECT extents FROM map_chunk WHERE id IN (${chunksOf})`,
    );
    const reached = new Set(lists.all(checkpoint).flatMap(({ extents }) => [...unpackNumbers(extents)]));
    for (const n of reached) copyRows(source, copy, "extent", "n = ?", n);
    return reached.size;
  });
}

const chunksOf = "SELECT chunk FROM checkpoint_chunk WHERE checkpoint = ?";

/** Columns that only the next release knows stay behind: the copy is a file of this one. */
function copyRows(source: Database, copy: Database, table: string, where: string, value: string | number): void {
  const known = copy.query<{ name: string }, [string]>("SELECT name FROM pragma_table_info(?)").all(table);
  const columns = known.map(({ name }) => name).join(", ");
  const insert = copy.query(`INSERT INTO ${table} (${columns}) VALUES (${known.map(() => "?").join(", ")})`);
  const select = source.query<Row, [string | number]>(`SELECT ${columns} FROM ${table} WHERE ${where}`);
  for (const row of select.iterate(value)) insert.run(...Object.values(row));
}
