// SPDX-License-Identifier: Apache-2.0
/**
 * The journal file as its one writer sees it. Gets batches of rows; gives the number of the newest durable row.
 *
 * Runs in the storage Worker only; every call blocks for the disk. A batch is one transaction: all or nothing. Rows with
 * an id of their own (all but events) are written at most once, however often they are offered.
 */
import type { Database, Statement } from "bun:sqlite";
import type { PastTrial, TrialId } from "#fault.ts";
import { applicationId, asStorageError, closeQuietly, journalSettings, openWritable, readNumber } from "./database.ts";
import {
  type IntentHead,
  interruptedOutcome,
  type JournalRow,
  type OutcomeHead,
  outcomeRow,
  pastTrial,
  readHead,
} from "./rows.ts";

/** Trials read back at open, and how many of them for one site. */
const historyTrialsMax = 4096;
const historyPerSiteMax = 64;
/** An event that may have been committed before an error is looked for among this many newest rows. */
const retryWindowRows = 1024;

/** `n` is the cursor: it follows the order of commits and is never used twice, as the newest row is never deleted. */
const schema = `
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
  CREATE INDEX entry_open ON entry(n) WHERE open = 1;
`;
export const journalVersion = 1;

type InsertValues = [string, string, number, number, string, Uint8Array | null];

export class Journal implements Disposable {
  readonly #database: Database;
  readonly #insert: Statement<unknown, InsertValues>;
  readonly #close: Statement<unknown, [string]>;

  /** Opens the journal at `path`. Blocks. @throws StorageError */
  static open(path: string): Journal {
    const database = openWritable(path, journalSettings);
    try {
      if (readNumber(database, "PRAGMA user_version") === 0) create(database);
      return new Journal(database);
    } catch (cause) {
      closeQuietly(database);
      throw asStorageError(cause, `open ${path}`);
    }
  }

  private constructor(database: Database) {
    this.#database = database;
    this.#insert = database.prepare(
      "INSERT OR IGNORE INTO entry (id, kind, at_ms, open, head, body) VALUES (?, ?, ?, ?, ?, ?)",
    );
    this.#close = database.prepare("UPDATE entry SET open = 0 WHERE id = ? AND kind = 'intent' AND open = 1");
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
      if (wanted.length === 1 && wanted[0]!.kind === "event") return Number(this.#add(wanted[0]!));
      this.#database.run("BEGIN IMMEDIATE");
      for (const row of wanted) this.#add(row);
      const cursor = this.cursor;
      this.#database.run("COMMIT");
      return cursor;
    } catch (cause) {
      this.#rollBack();
      throw asStorageError(cause, `commit ${rows.length} rows to the journal`);
    }
  }

  /** Gives every open intent the outcome *failed, interrupted*. Gives the trials settled. */
  settle(atMs: number): TrialId[] {
    const open = this.#database
      .query<{ id: TrialId; head: string }, []>("SELECT id, head FROM entry WHERE open = 1 ORDER BY n")
      .all();
    const outcomes = open.flatMap(
      ({ id, head }) => interruptedOutcome(id, readHead<IntentHead>(head).decision.edit) ?? [],
    );
    if (outcomes.length > 0) this.write(outcomes.map((outcome) => outcomeRow(outcome, atMs)));
    return outcomes.map((outcome) => outcome.trial);
  }

  /** The newest trials, oldest first, at most 64 of one site; signals let through are none. */
  history(): PastTrial[] {
    const rows = this.#database
      .query<{ head: string; at_ms: number; outcome: string | null }, [number]>(
        `SELECT i.head, i.at_ms, o.head AS outcome FROM entry AS i
         LEFT JOIN entry AS o ON o.id = i.id || '=' AND o.kind <> 'event'
         WHERE i.kind = 'intent' ORDER BY i.n DESC LIMIT ?`,
      )
      .all(historyTrialsMax);
    const perSite = new Map<string, number>();
    const trials: PastTrial[] = [];
    for (const { head, at_ms, outcome } of rows) {
      const intent = readHead<IntentHead>(head);
      if (intent.decision.edit.kind === "deliver") continue;
      const seen = perSite.get(intent.site.fault) ?? 0;
      if (seen === historyPerSiteMax) continue;
      perSite.set(intent.site.fault, seen + 1);
      trials.push(pastTrial(intent, at_ms, outcome === null ? null : readHead<OutcomeHead>(outcome)));
    }
    return trials.reverse();
  }

  [Symbol.dispose](): void {
    closeQuietly(this.#database);
  }

  #add(row: JournalRow): number | bigint {
    const body = row.body === null ? null : Bun.zstdCompressSync(row.body, { level: 1 });
    const result = this.#insert.run(row.id, row.kind, row.atMs, row.open ? 1 : 0, row.head, body);
    if (row.kind === "outcome") this.#close.run(row.id.slice(0, -1));
    return result.lastInsertRowid;
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

  #rollBack(): void {
    try {
      if (this.#database.inTransaction) this.#database.run("ROLLBACK");
    } catch {
      // SQLite has rolled back by itself, as it does after a full disk or an input/output error.
    }
  }
}

function create(database: Database): void {
  database.run("BEGIN IMMEDIATE");
  database.run(schema);
  database.run(`PRAGMA application_id = ${applicationId}`);
  database.run(`PRAGMA user_version = ${journalVersion}`);
  database.run("COMMIT");
}

/** JSON text of what a body column holds. */
export const readBody = (body: Uint8Array): string => new TextDecoder().decode(Bun.zstdDecompressSync(body));
