// SPDX-License-Identifier: Apache-2.0
/**
 * The history file as its one writer sees it: samples as they came, folded into minutes and hours. Gets samples; keeps raw
 * ones a day, minutes a week, hours a year (see limits.ts).
 *
 * Flushed lazily (`synchronous=NORMAL`): consistent after a power cut, the last seconds may be gone. Folding is one
 * transaction with the mark of how far it got, so it happens once. A minute or an hour holds count, sum, least, greatest
 * and last value. Blocks for the disk.
 */

import type { Database } from "bun:sqlite";
import { asStorageError, closeQuietly, newestNumber, readNumber, startNumbers, transact } from "./database.ts";
import type { StorageLimits } from "./limits.ts";
import type { Migration } from "./migrations.ts";
import type { Fullness } from "./space.ts";
import { type FileDefinition, type OpenConditions, type OpenedFile, openStored } from "./storedFile.ts";

export type SampleRow = {
  readonly kind: "sample";
  readonly name: string;
  readonly workload: string;
  readonly unit: string;
  readonly atMs: number;
  readonly value: number;
};

const steps: readonly Migration[] = [
  {
    name: "samples, minutes and hours",
    sql: `
      CREATE TABLE series (id INTEGER PRIMARY KEY, name TEXT NOT NULL, workload TEXT NOT NULL, unit TEXT NOT NULL,
        UNIQUE (name, workload)) STRICT;
      CREATE TABLE raw (n INTEGER PRIMARY KEY AUTOINCREMENT, series INTEGER NOT NULL, at_ms INTEGER NOT NULL, value REAL NOT NULL) STRICT;
      CREATE TABLE minute (series INTEGER NOT NULL, at_ms INTEGER NOT NULL, count INTEGER NOT NULL, sum REAL NOT NULL,
        least REAL NOT NULL, greatest REAL NOT NULL, last REAL NOT NULL, PRIMARY KEY (series, at_ms)) STRICT, WITHOUT ROWID;
      CREATE TABLE hour (series INTEGER NOT NULL, at_ms INTEGER NOT NULL, count INTEGER NOT NULL, sum REAL NOT NULL,
        least REAL NOT NULL, greatest REAL NOT NULL, last REAL NOT NULL, PRIMARY KEY (series, at_ms)) STRICT, WITHOUT ROWID;
      CREATE TABLE mark (name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT;`,
    check: "SELECT count(*) = 5 FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite%'",
  },
];
export const historyFile: FileDefinition = { file: "history", steps, bootCheck: "schema" };

const minuteMs = 60_000;
const hourMs = 3_600_000;
/** Rows folded or deleted in one step of upkeep. */
const stepRowsMax = 2_000;
/** Series that one file knows; samples of more are left out. */
const seriesMax = 4_096;
const vacuumPages = 64;
/** On a tight disk everything is kept for an eighth of its time. */
const tightRatio = 8;

export class History implements Disposable {
  readonly opened: OpenedFile;
  readonly salvage = null;
  readonly #database: Database;
  readonly #series = new Map<string, number>();

  /** Blocks. @throws StorageError */
  static open(directory: string, conditions: OpenConditions): History {
    const opened = openStored(directory, historyFile, conditions);
    // Cursors of readers stay ahead of what they have seen, also where the old numbers went with the old file.
    if (opened.quarantined !== null) startNumbers(opened.database, "raw", conditions.atMs);
    return new History(opened);
  }

  private constructor(opened: OpenedFile) {
    this.opened = opened;
    this.#database = opened.database;
  }

  get cursor(): number {
    return newestNumber(this.#database, "raw");
  }

  /** Commits `rows` and gives the new cursor. @throws StorageError */
  write(rows: readonly SampleRow[]): number {
    try {
      return transact(this.#database, () => {
        const insert = this.#database.query<unknown, [number, number, number]>(
          "INSERT INTO raw (series, at_ms, value) VALUES (?, ?, ?)",
        );
        for (const row of rows) {
          const series = this.#seriesOf(row);
          if (series !== null && Number.isFinite(row.value)) insert.run(series, Math.round(row.atMs), row.value);
        }
        return this.cursor;
      });
    } catch (cause) {
      // A series made in a transaction that failed has no row.
      this.#series.clear();
      throw asStorageError(cause, `commit ${rows.length} samples`);
    }
  }

  /** One step of folding, deleting and giving space back. True where there is more to do. */
  retain(atMs: number, limits: StorageLimits, state: Fullness, overBudget: boolean): boolean {
    const folded = this.#fold(atMs);
    const full = this.#contentBytes() > limits.historyBytesMax;
    const ratio = state === "normal" && !full && !overBudget ? 1 : tightRatio;
    const deleted = transact(this.#database, () => this.#delete(atMs, limits, ratio));
    if (readNumber(this.#database, "PRAGMA freelist_count") > vacuumPages) {
      this.#database.run(`PRAGMA incremental_vacuum(${vacuumPages})`);
    }
    return folded || deleted >= stepRowsMax;
  }

  [Symbol.dispose](): void {
    closeQuietly(this.#database);
  }

  /** Deletes old samples, and once an hour old minutes and hours. Gives the samples that went. */
  #delete(atMs: number, limits: StorageLimits, ratio: number): number {
    const database = this.#database;
    const hour = Math.floor(atMs / hourMs);
    if (this.#mark("trimmed") !== hour) {
      database.query("DELETE FROM minute WHERE at_ms < ?").run(atMs - limits.minuteAgeMsMax / ratio);
      database.query("DELETE FROM hour WHERE at_ms < ?").run(atMs - limits.hourAgeMsMax / ratio);
      database.query("INSERT OR REPLACE INTO mark (name, value) VALUES ('trimmed', ?)").run(hour);
    }
    return database
      .query(
        `DELETE FROM raw WHERE n IN (
           SELECT n FROM (SELECT n, at_ms FROM raw ORDER BY n LIMIT ?) WHERE at_ms < ? AND n <= ?)`,
      )
      .run(stepRowsMax, atMs - limits.rawAgeMsMax / ratio, this.#mark("folded")).changes;
  }

  /** Adds samples to their minutes and hours, up to the last whole minute. True where there are more. */
  #fold(atMs: number): boolean {
    return transact(this.#database, () => {
      const from = this.#mark("folded");
      const to = readNumber(
        this.#database,
        "SELECT max(n) FROM (SELECT n, at_ms FROM raw WHERE n > ? ORDER BY n LIMIT ?) WHERE at_ms < ?",
        from,
        stepRowsMax,
        Math.floor(atMs / minuteMs) * minuteMs,
      );
      if (to <= from) return false;
      for (const [table, widthMs] of [
        ["minute", minuteMs],
        ["hour", hourMs],
      ] as const) {
        this.#database
          .query(
            `INSERT INTO ${table} (series, at_ms, count, sum, least, greatest, last)
             SELECT part.series, start_ms, count, sum, least, greatest, raw.value FROM (
               SELECT series, at_ms / ?1 * ?1 AS start_ms, count(*) AS count, sum(value) AS sum, min(value) AS least,
                 max(value) AS greatest, max(n) AS newest
               FROM raw WHERE n > ?2 AND n <= ?3 GROUP BY series, start_ms
             ) AS part JOIN raw ON raw.n = part.newest WHERE true
             ON CONFLICT (series, at_ms) DO UPDATE SET count = count + excluded.count, sum = sum + excluded.sum,
               least = min(least, excluded.least), greatest = max(greatest, excluded.greatest), last = excluded.last`,
          )
          .run(widthMs, from, to);
      }
      this.#database.query("INSERT OR REPLACE INTO mark (name, value) VALUES ('folded', ?)").run(to);
      return to - from >= stepRowsMax;
    });
  }

  #mark(name: string): number {
    return readNumber(this.#database, "SELECT value FROM mark WHERE name = ?", name);
  }

  #seriesOf(row: SampleRow): number | null {
    const key = `${row.workload}\n${row.name}`;
    const known = this.#series.get(key);
    if (known !== undefined) return known;
    if (this.#series.size >= seriesMax) return null;
    this.#database
      .query("INSERT OR IGNORE INTO series (name, workload, unit) VALUES (?, ?, ?)")
      .run(row.name, row.workload, row.unit);
    const id = readNumber(
      this.#database,
      "SELECT id FROM series WHERE name = ? AND workload = ?",
      row.name,
      row.workload,
    );
    this.#series.set(key, id);
    return id;
  }

  #contentBytes(): number {
    const pages = readNumber(this.#database, "PRAGMA page_count") - readNumber(this.#database, "PRAGMA freelist_count");
    return pages * readNumber(this.#database, "PRAGMA page_size");
  }
}
