// SPDX-License-Identifier: Apache-2.0
/**
 * The outbox file as its one writer sees it: messages to publish, jobs, seen commands, trusted keys. Gets batches of rows,
 * each one change; commits them like the journal does. What is sent when, and who is believed, is telemetry's business.
 *
 * A message leaves only when it is acknowledged (`sent`), when it is too old, or when the file is full: then metrics are
 * thinned, every second of the oldest, before any event goes, and events go in the order of their class. A retained
 * message replaces the older one of its topic. Drops are counted by class and told once. Blocks for the disk.
 */

import type { Database } from "bun:sqlite";
import type { Clock } from "#clock.ts";
import { asStorageError, closeQuietly, newestNumber, readNumber, startNumbers, transact } from "./database.ts";
import type { StorageLimits } from "./limits.ts";
import type { Migration } from "./migrations.ts";
import { Salvage, type SalvageTable } from "./salvage.ts";
import { type FileDefinition, type OpenConditions, type OpenedFile, openStored } from "./storedFile.ts";

/** In the order in which they are given up. */
export const messageClasses = ["metric", "info", "warning", "fault", "audit"] as const;
export type MessageClass = (typeof messageClasses)[number];

export type OutboxRow =
  | {
      readonly kind: "message";
      /** Written once, however often it is offered. */
      readonly id: string;
      readonly class: MessageClass;
      readonly topic: string;
      readonly retained: boolean;
      readonly atMs: number;
      readonly body: Uint8Array;
      /** JSON: content type, user properties and the like. */
      readonly head: string;
    }
  /** The broker has acknowledged message `n`, or these. */
  | { readonly kind: "sent"; readonly n: number | readonly number[] }
  | { readonly kind: "job"; readonly id: string; readonly atMs: number; readonly head: string }
  | {
      readonly kind: "command";
      readonly id: string;
      readonly key: string;
      readonly counter: number;
      readonly atMs: number;
    }
  /** A null head removes the key. */
  | { readonly kind: "key"; readonly id: string; readonly atMs: number; readonly head: string | null }
  /** A small fact under a group and an id: retained topics, counters of keys, fleet records. A null head removes it. */
  | {
      readonly kind: "note";
      readonly group: string;
      readonly id: string;
      readonly atMs: number;
      readonly head: string | null;
    }
  /** The publisher has taken over the journal up to this entry. */
  | { readonly kind: "cursor"; readonly name: string; readonly n: number };

const steps: readonly Migration[] = [
  {
    name: "messages, jobs, commands and keys",
    sql: `
      CREATE TABLE message (
        n INTEGER PRIMARY KEY AUTOINCREMENT,
        id TEXT NOT NULL UNIQUE,
        class INTEGER NOT NULL,
        topic TEXT NOT NULL,
        retained INTEGER NOT NULL,
        at_ms INTEGER NOT NULL,
        head TEXT NOT NULL,
        body BLOB NOT NULL
      ) STRICT;
      CREATE UNIQUE INDEX message_retained ON message(topic) WHERE retained = 1;
      CREATE TABLE job (id TEXT PRIMARY KEY, at_ms INTEGER NOT NULL, head TEXT NOT NULL) STRICT;
      CREATE TABLE command (id TEXT PRIMARY KEY, key TEXT NOT NULL, counter INTEGER NOT NULL, at_ms INTEGER NOT NULL) STRICT;
      CREATE TABLE key (id TEXT PRIMARY KEY, at_ms INTEGER NOT NULL, head TEXT NOT NULL) STRICT;
      CREATE TABLE cursor (name TEXT PRIMARY KEY, n INTEGER NOT NULL) STRICT;
      CREATE TABLE dropped (class INTEGER PRIMARY KEY, rows INTEGER NOT NULL, from_ms INTEGER NOT NULL, to_ms INTEGER NOT NULL) STRICT;`,
    check: "SELECT count(*) = 6 FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite%'",
  },
  {
    name: "notes, and events found behind metrics",
    // The index holds events only: a backlog of metrics is not read through to find the next event.
    sql: `
      CREATE TABLE note (kind TEXT NOT NULL, id TEXT NOT NULL, at_ms INTEGER NOT NULL, head TEXT NOT NULL, PRIMARY KEY (kind, id)) STRICT;
      CREATE INDEX message_event ON message(n) WHERE class > 0;`,
    check: "SELECT count(*) = 2 FROM sqlite_schema WHERE name IN ('note', 'message_event')",
  },
];
export const outboxFile: FileDefinition = { file: "outbox", steps, bootCheck: "quick" };

const salvageTables: readonly SalvageTable[] = [
  { name: "key", columns: ["id", "at_ms", "head"], json: "head" },
  { name: "command", columns: ["id", "key", "counter", "at_ms"], json: null },
  { name: "cursor", columns: ["name", "n"], json: null },
  { name: "note", columns: ["kind", "id", "at_ms", "head"], json: null },
  { name: "job", columns: ["id", "at_ms", "head"], json: "head" },
  { name: "message", columns: ["n", "id", "class", "topic", "retained", "at_ms", "head", "body"], json: "head" },
];
const salvageAtOpenMs = 500;
const deleteRowsMax = 500;
/** Jobs and commands are remembered this long; a command expires within an hour. */
const commandAgeMsMax = 86_400_000;
const jobAgeMsMax = 30 * 86_400_000;

export class Outbox implements Disposable {
  readonly opened: OpenedFile;
  readonly salvage: Salvage | null;
  readonly #database: Database;

  /** Blocks. @throws StorageError */
  static open(directory: string, conditions: OpenConditions, clock: Clock): Outbox {
    return new Outbox(openStored(directory, outboxFile, conditions), conditions.atMs, clock);
  }

  private constructor(opened: OpenedFile, atMs: number, clock: Clock) {
    this.opened = opened;
    this.#database = opened.database;
    this.salvage = null;
    if (opened.quarantined === null) return;
    this.salvage = new Salvage(opened.quarantined.set, opened.database, salvageTables, clock);
    startNumbers(opened.database, "message", (this.salvage.newest("message") ?? atMs) + 1);
    this.salvage.step(salvageAtOpenMs);
  }

  /** Number of the newest message ever written. */
  get cursor(): number {
    return newestNumber(this.#database, "message");
  }

  /** Commits `rows` and gives the new cursor. Every row may be offered again. @throws StorageError */
  write(rows: readonly OutboxRow[]): number {
    try {
      return transact(this.#database, () => {
        for (const row of rows) this.#apply(row);
        return this.cursor;
      });
    } catch (cause) {
      throw asStorageError(cause, `commit ${rows.length} rows to the outbox`);
    }
  }

  /** Deletes some of what age or size let go. True where there is more. */
  retain(atMs: number, limits: StorageLimits): boolean {
    return transact(this.#database, () => {
      this.#database.query("DELETE FROM command WHERE at_ms < ?").run(atMs - commandAgeMsMax);
      this.#database.query("DELETE FROM job WHERE at_ms < ?").run(atMs - jobAgeMsMax);
      // A row of a boot that did not know the time looks old the moment the clock is set; only its bytes count.
      const dated = 'at_ms < ? AND retained = 0 AND head NOT LIKE \'%"quality":"guess"%\'';
      const aged = this.#drop(dated, atMs - limits.outboxAgeMsMax, deleteRowsMax);
      return this.#shrink(limits) || aged > 0;
    });
  }

  [Symbol.dispose](): void {
    this.salvage?.[Symbol.dispose]();
    closeQuietly(this.#database);
  }

  #apply(row: OutboxRow): void {
    const database = this.#database;
    switch (row.kind) {
      case "message":
        if (row.retained) database.query("DELETE FROM message WHERE topic = ? AND retained = 1").run(row.topic);
        database
          .query(
            "INSERT OR IGNORE INTO message (id, class, topic, retained, at_ms, head, body) VALUES (?, ?, ?, ?, ?, ?, ?)",
          )
          .run(
            row.id,
            messageClasses.indexOf(row.class),
            row.topic,
            row.retained ? 1 : 0,
            row.atMs,
            row.head,
            row.body,
          );
        return;
      case "sent":
        database
          .query("DELETE FROM message WHERE n IN (SELECT value FROM json_each(?))")
          .run(JSON.stringify([row.n].flat()));
        return;
      case "job":
        database.query("INSERT OR REPLACE INTO job (id, at_ms, head) VALUES (?, ?, ?)").run(row.id, row.atMs, row.head);
        return;
      case "command":
        database
          .query("INSERT OR IGNORE INTO command (id, key, counter, at_ms) VALUES (?, ?, ?, ?)")
          .run(row.id, row.key, row.counter, row.atMs);
        return;
      case "key":
        if (row.head === null) database.query("DELETE FROM key WHERE id = ?").run(row.id);
        else
          database
            .query("INSERT OR REPLACE INTO key (id, at_ms, head) VALUES (?, ?, ?)")
            .run(row.id, row.atMs, row.head);
        return;
      case "note":
        if (row.head === null) database.query("DELETE FROM note WHERE kind = ? AND id = ?").run(row.group, row.id);
        else
          database
            .query("INSERT OR REPLACE INTO note (kind, id, at_ms, head) VALUES (?, ?, ?, ?)")
            .run(row.group, row.id, row.atMs, row.head);
        return;
      case "cursor":
        database
          .query(
            "INSERT OR REPLACE INTO cursor (name, n) VALUES (?, max(?, coalesce((SELECT n FROM cursor WHERE name = ?), 0)))",
          )
          .run(row.name, row.n, row.name);
    }
  }

  /** One step of making room. True where something went. */
  #shrink(limits: StorageLimits): boolean {
    const metricBytes = this.#bytesOf("class = 0");
    const bytes = metricBytes + this.#bytesOf("class > 0");
    if (metricBytes > limits.outboxBytesMax * (1 - limits.outboxReserveRatio) || bytes > limits.outboxBytesMax) {
      // Every second one first: what is left still shows the course of a value.
      if (this.#drop("class = ? AND n % 2 = 1", 0, deleteRowsMax) > 0) return true;
      if (this.#drop("class = ?", 0, deleteRowsMax) > 0) return true;
    }
    if (bytes <= limits.outboxBytesMax) return false;
    return messageClasses.some(
      (_, rank) => rank > 0 && this.#drop("class = ? AND retained = 0", rank, deleteRowsMax) > 0,
    );
  }

  #bytesOf(where: string): number {
    return readNumber(
      this.#database,
      `SELECT coalesce(sum(length(body) + length(head) + length(topic) + 64), 0) FROM message WHERE ${where}`,
    );
  }

  #drop(where: string, value: number, rowsMax: number): number {
    const chosen = `SELECT n FROM message WHERE ${where} ORDER BY n LIMIT ${rowsMax}`;
    this.#database
      .query(
        `INSERT INTO dropped (class, rows, from_ms, to_ms) SELECT class, count(*), min(at_ms), max(at_ms) FROM message WHERE n IN (${chosen}) GROUP BY class
         ON CONFLICT (class) DO UPDATE SET rows = rows + excluded.rows, from_ms = min(from_ms, excluded.from_ms),
           to_ms = max(to_ms, excluded.to_ms)`,
      )
      .run(value);
    return this.#database.query(`DELETE FROM message WHERE n IN (${chosen})`).run(value).changes;
  }
}
