// SPDX-License-Identifier: Apache-2.0
/**
 * Opens a SQLite file the way this project writes it. Gets a path and the settings of that file; gives a connection whose
 * every pragma was read back.
 *
 * WAL without automatic checkpoints (they land in a random commit; upkeep runs them), no memory mapping (a read error
 * through a mapping is a SIGBUS that would end us). SQLite before 3.51.3 is refused: its WAL reset can lose a commit with
 * two connections (fixed upstream in 3.51.3). A file that is not ours is told apart before anything in it is changed.
 */
import { constants, Database } from "bun:sqlite";
import { accessSync, constants as fileAccess } from "node:fs";
import { dirname } from "node:path";
import { StorageError } from "#errors.ts";

export const fileNames = ["journal", "outbox", "history", "pages"] as const;
export type FileName = (typeof fileNames)[number];

export type FileSettings = {
  readonly pageBytes: number;
  /** 0 none, 2 incremental. */
  readonly autoVacuum: 0 | 2;
  /** 1 NORMAL, 2 FULL. */
  readonly synchronous: 1 | 2;
  /** What is left of a WAL that is reset. */
  readonly walBytesKept: number;
};

const mebibyte = 1024 * 1024;
const oldestVersion = [3, 51, 3] as const;
/** How long a statement waits for another connection's lock. */
const busyTimeoutMs = 1000;
/** "HOLD": marks a file as ours. */
export const applicationId = 0x484f4c44;

const durable: FileSettings = { pageBytes: 4096, autoVacuum: 0, synchronous: 2, walBytesKept: 4 * mebibyte };
export const fileSettings: Readonly<Record<FileName, FileSettings>> = {
  journal: durable,
  outbox: durable,
  history: { pageBytes: 4096, autoVacuum: 2, synchronous: 1, walBytesKept: 4 * mebibyte },
  pages: { pageBytes: 16_384, autoVacuum: 2, synchronous: 1, walBytesKept: 64 * mebibyte },
};

/** Opens `path` for writing, making it where there is none. Blocks. @throws StorageError, see `asStorageError` */
export function openWritable(path: string, settings: FileSettings): Database {
  let database: Database | undefined;
  try {
    database = new Database(path, { create: true, readwrite: true, strict: true });
    checkVersion(database);
    set(database, "busy_timeout", busyTimeoutMs, "timeout");
    set(database, "mmap_size", 0);
    checkOwner(database, path);
    set(database, "page_size", settings.pageBytes);
    set(database, "auto_vacuum", settings.autoVacuum);
    setWal(database);
    set(database, "synchronous", settings.synchronous);
    set(database, "wal_autocheckpoint", 0);
    set(database, "journal_size_limit", settings.walBytesKept);
    set(database, "foreign_keys", 1);
    set(database, "trusted_schema", 0);
    set(database, "cell_size_check", 1);
    set(database, "temp_store", 2);
    return database;
  } catch (cause) {
    closeQuietly(database);
    throw asStorageError(cause, `open ${path}`);
  }
}

/**
 * Opens `path` read-only; the file must exist. On a read-only disk, where the index of a WAL cannot be made, what is in the
 * database itself is read. @throws StorageError
 */
export function openReadOnly(path: string): Database {
  let database: Database | undefined;
  try {
    database = isDiskReadOnly(dirname(path))
      ? openImmutable(path)
      : new Database(path, { readonly: true, strict: true });
    database.run(`PRAGMA busy_timeout = ${busyTimeoutMs}`);
    database.run("PRAGMA mmap_size = 0");
    database.run("PRAGMA trusted_schema = OFF");
    database.run("PRAGMA cell_size_check = ON");
    return database;
  } catch (cause) {
    closeQuietly(database);
    throw asStorageError(cause, `read ${path}`);
  }
}

/** For a file that nobody writes: leaves nothing beside it and takes no lock. */
export const openImmutable = (path: string): Database =>
  new Database(`file:${encodeURI(path)}?immutable=1`, constants.SQLITE_OPEN_READONLY | constants.SQLITE_OPEN_URI);

function isDiskReadOnly(directory: string): boolean {
  try {
    accessSync(directory, fileAccess.W_OK);
    return false;
  } catch (error) {
    return error instanceof Error && "code" in error && error.code === "EROFS";
  }
}

/** Sets how a commit is flushed, outside a transaction. @throws StorageError storage.pragma */
export function setSynchronous(database: Database, level: FileSettings["synchronous"]): void {
  set(database, "synchronous", level);
}

/** What SQLite's error means to us. @returns the error itself if it is a StorageError already */
export function asStorageError(cause: unknown, tried: string): StorageError {
  if (cause instanceof StorageError) return cause;
  const code = sqliteCode(cause);
  const context = { sqlite: code };
  if (code.startsWith("SQLITE_CORRUPT") || code.startsWith("SQLITE_NOTADB")) {
    return new StorageError("storage.corrupt", `cannot ${tried}: the file is damaged`, context, cause);
  }
  if (code.startsWith("SQLITE_FULL")) {
    return new StorageError("storage.full", `cannot ${tried}: the disk is full`, context, cause);
  }
  return new StorageError("storage.io", `cannot ${tried}`, context, cause);
}

/** SQLite's name of an error, such as `SQLITE_IOERR_FSYNC`, or "". */
const sqliteCode = (error: unknown): string => (error instanceof Error && "code" in error ? String(error.code) : "");

/** One value of one row, as a number; 0 where there is none. */
export function readNumber(database: Database, sql: string, ...values: (string | number)[]): number {
  const row = database.query<Record<string, number>, (string | number)[]>(sql).get(...values);
  return Number(row === null ? 0 : (Object.values(row)[0] ?? 0));
}

/** The greatest number that a table with AUTOINCREMENT ever gave out. */
export const newestNumber = (database: Database, table: string): number =>
  readNumber(database, "SELECT seq FROM sqlite_sequence WHERE name = ?", table);

/** Makes a new table with AUTOINCREMENT count on from `number`. */
export function startNumbers(database: Database, table: string, number: number): void {
  database.query("DELETE FROM sqlite_sequence WHERE name = ?").run(table);
  database.query("INSERT INTO sqlite_sequence (name, seq) VALUES (?, ?)").run(table, number);
}

/** Runs `act` in one transaction: all of it or nothing. @throws what `act` or the commit threw */
export function transact<Value>(database: Database, act: () => Value): Value {
  database.run("BEGIN IMMEDIATE");
  try {
    const value = act();
    database.run("COMMIT");
    return value;
  } catch (error) {
    rollBack(database);
    throw error;
  }
}

export function closeQuietly(database: Database | undefined): void {
  try {
    database?.close();
  } catch {
    // What was committed is on the disk, what was not is still in the queue: nothing is lost with the connection.
  }
}

function rollBack(database: Database): void {
  try {
    if (database.inTransaction) database.run("ROLLBACK");
  } catch {
    // SQLite has rolled back by itself, as it does after a full disk or an input/output error.
  }
}

function set(database: Database, pragma: string, value: number, column: string = pragma): void {
  database.run(`PRAGMA ${pragma} = ${value}`);
  const row = database.query<Record<string, number>, []>(`PRAGMA ${pragma}`).get();
  if (row?.[column] === value) return;
  throw new StorageError("storage.pragma", `SQLite did not take PRAGMA ${pragma}`, {
    wanted: value,
    got: row?.[column] ?? null,
  });
}

function setWal(database: Database): void {
  const row = database.query<{ journal_mode: string }, []>("PRAGMA journal_mode = WAL").get();
  if (row?.journal_mode === "wal") return;
  throw new StorageError("storage.pragma", "SQLite did not take PRAGMA journal_mode = WAL", {
    got: row?.journal_mode ?? null,
  });
}

/** A file with tables and without our mark is somebody else's. */
function checkOwner(database: Database, path: string): void {
  const id = readNumber(database, "PRAGMA application_id");
  if (id === applicationId || (id === 0 && readNumber(database, "SELECT count(*) FROM sqlite_schema") === 0)) return;
  throw new StorageError("storage.corrupt", `${path} is a database of another program`, { applicationId: id });
}

function checkVersion(database: Database): void {
  const version = database.query<{ v: string }, []>("SELECT sqlite_version() AS v").get()?.v ?? "";
  const parts = version.split(".").map(Number);
  const at = oldestVersion.findIndex((part, index) => (parts[index] ?? 0) !== part);
  if (at < 0 || (parts[at] ?? 0) > oldestVersion[at]!) return;
  throw new StorageError("storage.version", `SQLite ${version} is too old, ${oldestVersion.join(".")} is needed`);
}
