// SPDX-License-Identifier: Apache-2.0
/**
 * What `holdfast storage status` and `verify` show of one state directory, while its supervisor may be running. Gets the
 * directory; gives facts. Read-only; a file that cannot be read is a line, not an exception. Blocks: command line only.
 */
import type { Database } from "bun:sqlite";
import { existsSync, readdirSync, statSync } from "node:fs";
import { basename, join } from "node:path";
import { parseJson } from "#bytes.ts";
import { explain } from "#errors.ts";
import { applicationId, type FileName, fileNames, openReadOnly, readNumber } from "./database.ts";
import { historyFile } from "./history.ts";
import { journalFile, readBody } from "./journal.ts";
import { defaultLimits } from "./limits.ts";
import { outboxFile } from "./outbox.ts";
import { holderOf, ringPath } from "./ownership.ts";
import { pagesFile } from "./pageFile.ts";
import { listQuarantine, type QuarantineSet } from "./quarantine.ts";
import { type Fullness, fullness, readSpace, type Space } from "./space.ts";
import { type PublishedState, readState } from "./stateFile.ts";
import { checkContent, type FileDefinition, pathOf, tablesOf } from "./storedFile.ts";

/** Directories below one STATE that are looked at. */
const directoriesMax = 1024;
/** Problems told of one file. */
const problemsMax = 20;

const definitions: Readonly<Record<FileName, FileDefinition>> = {
  journal: journalFile,
  outbox: outboxFile,
  history: historyFile,
  pages: pagesFile,
};

export type FileFacts = {
  readonly file: FileName;
  readonly bytes: number;
  readonly walBytes: number;
  readonly rows: number;
  readonly version: number;
  /** The version that this release writes. */
  readonly known: number;
  /** Why it cannot be read; "" where it can. */
  readonly trouble: string;
};

export type DirectoryFacts = {
  /** Name of the guard, "" for STATE itself. */
  readonly guard: string;
  readonly directory: string;
  /** The supervisor that holds it now; null where none does. */
  readonly holder: number | null;
  /** What that supervisor says of its storage; null where it does not run. */
  readonly state: PublishedState | null;
  readonly files: readonly FileFacts[];
  readonly quarantine: readonly QuarantineSet[];
  /** null where it cannot be told. */
  readonly space: Space | null;
  readonly fullness: Fullness;
};

/** STATE itself and the directories of its guards, as far as they hold a file of ours. @throws the system's error */
export function stateDirectories(stateDirectory: string): { readonly directory: string; readonly guard: string }[] {
  const guards = join(stateDirectory, "guards");
  const names = existsSync(guards)
    ? readdirSync(guards, { withFileTypes: true }).flatMap((entry) => (entry.isDirectory() ? [entry.name] : []))
    : [];
  return [stateDirectory, ...names.sort().map((name) => join(guards, name))]
    .filter((directory) => fileNames.some((file) => existsSync(pathOf(directory, file))))
    .slice(0, directoriesMax)
    .map((directory) => ({ directory, guard: directory === stateDirectory ? "" : basename(directory) }));
}

export function inspectDirectory(place: { directory: string; guard: string }, runDirectory: string): DirectoryFacts {
  const { directory, guard } = place;
  const holder = holderOf(join(directory, "owner.lock"));
  const space = readSpace(directory);
  return {
    guard,
    directory,
    holder,
    state: holder === null ? null : readState(ringPath(runDirectory, directory)),
    files: fileNames.filter((file) => existsSync(pathOf(directory, file))).map((file) => inspectFile(directory, file)),
    quarantine: listQuarantine(directory),
    space,
    fullness: fullness(space, defaultLimits),
  };
}

export type FileCheck = { readonly file: FileName; readonly path: string; readonly problems: readonly string[] };

/** Reads every page of every file, and every row of the journal. `full` also compares indexes with their tables. */
export function verifyDirectory(directory: string, full: boolean): FileCheck[] {
  return fileNames
    .filter((file) => existsSync(pathOf(directory, file)))
    .map((file) => {
      const path = pathOf(directory, file);
      return { file, path, problems: verifyFile(path, file, full) };
    });
}

function inspectFile(directory: string, file: FileName): FileFacts {
  const path = pathOf(directory, file);
  const wal = `${path}-wal`;
  const size = {
    file,
    bytes: statSync(path).size,
    walBytes: existsSync(wal) ? statSync(wal).size : 0,
    known: definitions[file].steps.length,
  };
  try {
    using database = openReadOnly(path);
    const version = readNumber(database, "PRAGMA user_version");
    return { ...size, version, rows: countRows(database, file), trouble: "" };
  } catch (error) {
    return { ...size, version: 0, rows: 0, trouble: explain(error) };
  }
}

function countRows(database: Database, file: FileName): number {
  const names = database.query<{ name: string }, []>("SELECT name FROM sqlite_schema WHERE type = 'table'").all();
  const present = new Set(names.map(({ name }) => name));
  return tablesOf(definitions[file].steps)
    .filter((table) => present.has(table))
    .reduce((sum, table) => sum + readNumber(database, `SELECT count(*) FROM ${table}`), 0);
}

function verifyFile(path: string, file: FileName, full: boolean): string[] {
  try {
    using database = openReadOnly(path);
    if (readNumber(database, "PRAGMA application_id") !== applicationId) return ["not a file of ours"];
    const problems = checkContent(database, full ? "integrity_check" : "quick_check");
    const missing = tablesOf(definitions[file].steps.slice(0, readNumber(database, "PRAGMA user_version")));
    for (const table of missing) {
      if (readNumber(database, "SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name = ?", table) === 0) {
        problems.push(`no table ${table}`);
      }
    }
    if (file === "journal" && problems.length === 0) problems.push(...verifyEntries(database));
    return problems.slice(0, problemsMax);
  } catch (error) {
    return [explain(error)];
  }
}

/** A flipped bit inside a text or a compressed body passes SQLite's own checks. */
function verifyEntries(database: Database): string[] {
  const problems: string[] = [];
  const rows = database.query<{ n: number; id: string; head: string; body: Uint8Array | null }, []>(
    "SELECT n, id, head, body FROM entry ORDER BY n",
  );
  for (const { n, id, head, body } of rows.iterate()) {
    try {
      parseJson(head);
      if (body !== null) parseJson(readBody(body));
    } catch (error) {
      problems.push(`entry ${n} (${id}) is damaged: ${explain(error)}`);
      if (problems.length === problemsMax) break;
    }
  }
  return problems;
}
