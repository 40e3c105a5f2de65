// SPDX-License-Identifier: Apache-2.0
/**
 * The journal file as its one writer sees it. Gets batches of rows; gives the number of the newest durable row.
 *
 * Runs in the storage Worker only; every call blocks for the disk. A batch is one transaction: all or nothing. Rows with
 * an id of their own (all but events) are written at most once, however often they are offered. Entry numbers follow the
 * order of commits and are never used twice: the newest row is never deleted, and a journal that is made anew after damage
 * starts above the old one.
 */
import type { Database, Statement } from "bun:sqlite";
import type { Clock } from "#clock.ts";
import { StorageError } from "#errors.ts";
import type { PastTrial, TrialId } from "#fault.ts";
import { asStorageError, closeQuietly, openReadOnly, readNumber, transact } from "./database.ts";
import type { StorageLimits } from "./limits.ts";
import type { Migration } from "./migrations.ts";
import {
  eventRow,
  type IntentHead,
  interruptedOutcome,
  type JournalRow,
  type OutcomeHead,
  outcomeRow,
  pastTrial,
  readHeadOrNull,
  removed,
} from "./rows.ts";
import { Salvage, type SalvageTable } from "./salvage.ts";
import { type FileDefinition, type OpenConditions, type OpenedFile, openStored } from "./storedFile.ts";

/** Trials read back at open, and how many of them for one site. */
const historyTrialsMax = 4096;
const historyPerSiteMax = 64;
/** An event that may have been committed before an error is looked for among this many newest rows. */
const retryWindowRows = 1024;
/** Room between the newest number of a damaged journal and the first of the new one. */
const numberGap = 1_000_000;
/** Salvage before the first answer; the rest is done in idle. */
const salvageAtOpenMs = 500;
const deleteRowsMax = 500;
/** 2025-01-01: a clock that shows less was never set. */
const clockSetFromMs = 1_735_689_600_000;

const steps: readonly Migration[] = [
  {
    name: "entries",
    sql: `
      CREATE TABLE entry (
        n INTEGER PRIMARY KEY,
        id TEXT NOT NULL,
        kind TEXT NOT NULL,
        at_ms INTEGER NOT NULL,
        open INTEGER NOT NULL DEFAULT 0,
        head TEXT NOT NULL,
        body BLOB
      ) STRICT;
      CREATE UNIQUE INDEX entry_id ON entry(id) WHERE kind <> 'event';
      CREATE INDEX entry_open ON entry(n) WHERE open = 1;`,
    check: "SELECT count(*) = 2 FROM sqlite_schema WHERE type = 'index' AND tbl_name = 'entry' AND sql IS NOT NULL",
  },
  {
    name: "learned records and restore windows",
    sql: `
      CREATE TABLE learned (name TEXT PRIMARY KEY, at_ms INTEGER NOT NULL, head TEXT NOT NULL) STRICT;
      CREATE TABLE window (name TEXT PRIMARY KEY, at_ms INTEGER NOT NULL, head TEXT NOT NULL) STRICT;`,
    check: "SELECT count(*) = 2 FROM sqlite_schema WHERE type = 'table' AND name IN ('learned', 'window')",
  },
];
export const journalFile: FileDefinition = { file: "journal", steps, bootCheck: "quick" };

const named = (name: string): SalvageTable => ({ name, columns: ["name", "at_ms", "head"], json: "head" });
const entryColumns = ["n", "id", "kind", "at_ms", "open", "head", "body"] as const;
const salvageTables: readonly SalvageTable[] = [
  named("learned"),
  named("window"),
  { name: "entry", columns: entryColumns, json: "head" },
];

/** What a supervisor takes into memory at start. */
export type JournalMemory = {
  readonly history: readonly PastTrial[];
  readonly learned: ReadonlyMap<string, unknown>;
  readonly windows: ReadonlyMap<string, unknown>;
};

type InsertValues = [string, string, number, number, string, Uint8Array | null];

export class Journal implements Disposable {
  readonly opened: OpenedFile;
  readonly salvage: Salvage | null;
  readonly #database: Database;
  readonly #insert: Statement<unknown, InsertValues>;
  readonly #settled: Statement<unknown, [string]>;

  /** Blocks. @throws StorageError */
  static open(directory: string, conditions: OpenConditions, clock: Clock): Journal {
    return new Journal(openStored(directory, journalFile, conditions), conditions.atMs, clock);
  }

  private constructor(opened: OpenedFile, atMs: number, clock: Clock) {
    this.opened = opened;
    this.#database = opened.database;
    // Not prepare(): such a statement outlives close(), and with it the connection and its locks.
    this.#insert = opened.database.query(
      "INSERT OR IGNORE INTO entry (id, kind, at_ms, open, head, body) VALUES (?, ?, ?, ?, ?, ?)",
    );
    this.#settled = opened.database.query("UPDATE entry SET open = 0 WHERE id = ? AND kind = 'intent' AND open = 1");
    this.salvage = opened.quarantined === null ? null : this.#startAnew(opened.quarantined, atMs, clock);
  }

  /** Number of the newest durable row, 0 for an empty journal. */
  get cursor(): number {
    return readNumber(this.#database, "SELECT max(n) FROM entry");
  }

  /**
   * Commits `rows` and gives the new cursor. `again`: an earlier attempt failed and may have been committed all the same.
   * @throws StorageError after which nothing of the batch is visible
   */
  write(rows: readonly JournalRow[], again = false): number {
    try {
      const wanted = again ? this.#withoutCommitted(rows) : rows;
      if (wanted.length === 1 && wanted[0]!.kind === "event") return Number(this.#addEntry(wanted[0]!));
      return transact(this.#database, () => {
        for (const row of wanted) this.#add(row);
        return this.cursor;
      });
    } catch (cause) {
      throw asStorageError(cause, `commit ${rows.length} rows to the journal`);
    }
  }

  /** Gives every open intent the outcome *failed, interrupted*. Gives the trials settled. */
  settle(atMs: number): TrialId[] {
    const open = this.#database
      .query<{ id: TrialId; head: string }, []>("SELECT id, head FROM entry WHERE open = 1 ORDER BY n")
      .all();
    const outcomes = open.flatMap(({ id, head }) => {
      const edit = readHeadOrNull<IntentHead>(head)?.decision.edit ?? { kind: "deliver", reason: "exhausted" };
      return interruptedOutcome(id, edit) ?? [];
    });
    if (outcomes.length > 0) this.write(outcomes.map((outcome) => outcomeRow(outcome, atMs)));
    return outcomes.map((outcome) => outcome.trial);
  }

  memory(): JournalMemory {
    return readMemory(this.#database);
  }

  /**
   * Deletes some of what retention lets go. True where there is more. Rows from before the clock was set (a board without a
   * battery starts in 1970) have no known age: they go only when the file is too large.
   */
  retain(atMs: number, limits: StorageLimits): boolean {
    const full = this.#contentBytes() > limits.journalBytesMax;
    const result = this.#database
      .query<unknown, [number, number, number]>(
        `DELETE FROM entry WHERE n IN (
           SELECT n FROM (SELECT n, at_ms, open FROM entry ORDER BY n LIMIT ?)
           WHERE at_ms < ? AND at_ms >= ? AND open = 0 AND n < (SELECT max(n) FROM entry))`,
      )
      .run(deleteRowsMax, atMs - (full ? limits.journalAgeMsMin : limits.journalAgeMsMax), full ? 0 : clockSetFromMs);
    return result.changes > 0;
  }

  [Symbol.dispose](): void {
    this.salvage?.[Symbol.dispose]();
    closeQuietly(this.#database);
  }

  #add(row: JournalRow): void {
    if (row.kind === "learned" || row.kind === "window") this.#addNamed(row.kind, row);
    else this.#addEntry(row);
  }

  #addEntry(row: JournalRow): number | bigint {
    const body = row.body === null ? null : Bun.zstdCompressSync(row.body, { level: 1 });
    const result = this.#insert.run(row.id, row.kind, row.atMs, row.open ? 1 : 0, row.head, body);
    if (row.kind === "outcome") this.#settled.run(row.id.slice(0, -1));
    return result.lastInsertRowid;
  }

  #addNamed(table: "learned" | "window", row: JournalRow): void {
    if (row.head === removed) this.#database.query(`DELETE FROM ${table} WHERE name = ?`).run(row.id);
    else
      this.#database
        .query(`INSERT OR REPLACE INTO ${table} (name, at_ms, head) VALUES (?, ?, ?)`)
        .run(row.id, row.atMs, row.head);
  }

  #withoutCommitted(rows: readonly JournalRow[]): JournalRow[] {
    const events = this.#database
      .query<{ id: string }, [number]>(
        "SELECT id FROM entry WHERE kind = 'event' AND n > (SELECT coalesce(max(n), 0) FROM entry) - ?",
      )
      .all(retryWindowRows);
    const committed = new Set(events.map((event) => event.id));
    return rows.filter((row) => !committed.has(row.id));
  }

  #contentBytes(): number {
    const pages = readNumber(this.#database, "PRAGMA page_count") - readNumber(this.#database, "PRAGMA freelist_count");
    return pages * readNumber(this.#database, "PRAGMA page_size");
  }

  #startAnew(damaged: NonNullable<OpenedFile["quarantined"]>, atMs: number, clock: Clock): Salvage {
    const salvage = new Salvage(damaged.set, this.#database, salvageTables, clock);
    const first = (salvage.newest("entry") ?? atMs) + numberGap;
    const facts = { file: "journal", keptIn: damaged.set.directory, why: damaged.why };
    const row = eventRow(`quarantined-${atMs}`, { event: "quarantined", workload: "", facts }, atMs);
    this.#database
      .query("INSERT OR IGNORE INTO entry (n, id, kind, at_ms, open, head) VALUES (?, ?, ?, ?, 0, ?)")
      .run(first, row.id, row.kind, atMs, row.head);
    salvage.step(salvageAtOpenMs);
    return salvage;
  }
}

/** What an unwritable or much newer journal still tells. @throws StorageError */
export function readMemoryOf(path: string): JournalMemory {
  try {
    using database = openReadOnly(path);
    return readMemory(database);
  } catch (cause) {
    throw asStorageError(cause, `read ${path}`);
  }
}

/** JSON text of what a body column holds. @throws StorageError storage.corrupt where it is damaged */
export function readBody(body: Uint8Array): string {
  try {
    return new TextDecoder().decode(Bun.zstdDecompressSync(body));
  } catch (cause) {
    throw new StorageError("storage.corrupt", "a compressed report is damaged", { bytes: body.length }, cause);
  }
}

function readMemory(database: Database): JournalMemory {
  return {
    history: readHistory(database),
    learned: readNamed(database, "learned"),
    windows: readNamed(database, "window"),
  };
}

/** The newest trials, oldest first, at most 64 of one site; signals let through are none. */
function readHistory(database: Database): PastTrial[] {
  const rows = database
    .query<{ head: string; at_ms: number; outcome: string | null }, [number]>(
      `SELECT i.head, i.at_ms, o.head AS outcome FROM entry AS i
       LEFT JOIN entry AS o ON o.id = i.id || '=' AND o.kind <> 'event'
       WHERE i.kind = 'intent' ORDER BY i.n DESC LIMIT ?`,
    )
    .all(historyTrialsMax);
  const perSite = new Map<string, number>();
  const trials: PastTrial[] = [];
  for (const { head, at_ms, outcome } of rows) {
    const intent = readHeadOrNull<IntentHead>(head);
    if (intent === null || intent.decision.edit.kind === "deliver") continue;
    const seen = perSite.get(intent.site.fault) ?? 0;
    if (seen === historyPerSiteMax) continue;
    perSite.set(intent.site.fault, seen + 1);
    trials.push(pastTrial(intent, at_ms, outcome === null ? null : readHeadOrNull<OutcomeHead>(outcome)));
  }
  return trials.reverse();
}

export function readNamed(database: Database, table: "learned" | "window"): Map<string, unknown> {
  const rows = database
    .query<{ name: string; head: string }, []>(`SELECT name, head FROM ${table} ORDER BY name`)
    .all();
  return new Map(
    rows.flatMap(({ name, head }) => {
      const value = readHeadOrNull<unknown>(head);
      return value === null ? [] : [[name, value] as const];
    }),
  );
}
