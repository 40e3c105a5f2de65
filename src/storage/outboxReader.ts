// SPDX-License-Identifier: Apache-2.0
/**
 * What the publisher reads of the outbox: one lane of messages by cursor, its depth, notes and keys. Gets a state directory;
 * gives durable rows only.
 *
 * Read-only; each call opens, reads and closes, like the other readers by cursor. @throws StorageError where the file
 * cannot be read; a file that is not there yet is empty.
 */
import type { Database } from "bun:sqlite";
import { existsSync } from "node:fs";
import { asStorageError, openReadOnly, readNumber } from "./database.ts";
import { type MessageClass, messageClasses } from "./outbox.ts";
import { pathOf } from "./storedFile.ts";

export type OutboxLane = "event" | "metric";

export type LaneMessage = {
  readonly n: number;
  readonly id: string;
  readonly class: MessageClass;
  readonly topic: string;
  readonly atMs: number;
  /** JSON text, as it was written. */
  readonly head: string;
  readonly body: Uint8Array;
};
export type LaneContent = { readonly rows: number; readonly bytes: number; readonly oldestMs: number | null };

const laneWhere: Readonly<Record<OutboxLane, string>> = { event: "class > 0", metric: "class = 0" };

/** Messages of a lane after number `after`, oldest first. */
export function readLane(directory: string, lane: OutboxLane, after: number, limit: number): LaneMessage[] {
  type Row = Omit<LaneMessage, "class"> & { class: number };
  return read(directory, [], (database) =>
    database
      .query<Row, [number, number]>(
        `SELECT n, id, class, topic, at_ms AS atMs, head, body FROM message
         WHERE ${laneWhere[lane]} AND n > ? ORDER BY n LIMIT ?`,
      )
      .all(after, limit)
      .map((row) => ({ ...row, class: messageClasses[row.class] ?? "info" })),
  );
}

/** How much waits in a lane. Reads all of it: for the start and after drops, not for each sample. */
export function readDepth(directory: string, lane: OutboxLane): LaneContent {
  const nothing = { rows: 0, bytes: 0, oldestMs: null };
  return read(directory, nothing, (database) => {
    const found = database
      .query<LaneContent, []>(
        `SELECT count(*) AS rows, coalesce(sum(length(body)), 0) AS bytes, min(at_ms) AS oldestMs FROM message
         WHERE ${laneWhere[lane]}`,
      )
      .get();
    return found ?? nothing;
  });
}

export const readNewestMessage = (directory: string): number =>
  read(directory, 0, (database) => readNumber(database, "SELECT coalesce(max(n), 0) FROM message"));

export type StoredNote = { readonly group: string; readonly id: string; readonly head: string };

/** All notes, in the order of their writing. */
export const readNotes = (directory: string): StoredNote[] =>
  read(directory, [], (database) =>
    database.query<StoredNote, []>('SELECT kind AS "group", id, head FROM note ORDER BY at_ms, id').all(),
  );

/** The trust list as it is now: `holdfast keys` may have changed it since the last look. */
export const readKeys = (directory: string): { readonly id: string; readonly head: string }[] =>
  read(directory, [], (database) =>
    database.query<{ id: string; head: string }, []>("SELECT id, head FROM key ORDER BY at_ms, id").all(),
  );

export const readJobs = (directory: string): { readonly id: string; readonly head: string }[] =>
  read(directory, [], (database) =>
    database.query<{ id: string; head: string }, []>("SELECT id, head FROM job ORDER BY at_ms, id").all(),
  );

/** Ids of commands that were seen, and until when they count. */
export const readCommands = (directory: string): { readonly id: string; readonly untilMs: number }[] =>
  read(directory, [], (database) =>
    database.query<{ id: string; untilMs: number }, []>("SELECT id, counter AS untilMs FROM command").all(),
  );

/** Messages dropped for room or age since the file was made, by lane. */
export const readDropped = (
  directory: string,
): { readonly lane: OutboxLane; readonly rows: number; readonly fromMs: number; readonly toMs: number }[] =>
  read(directory, [], (database) =>
    database
      .query<{ lane: OutboxLane; rows: number; fromMs: number; toMs: number }, []>(
        `SELECT CASE class WHEN 0 THEN 'metric' ELSE 'event' END AS lane, sum(rows) AS rows, min(from_ms) AS fromMs,
           max(to_ms) AS toMs FROM dropped GROUP BY lane`,
      )
      .all(),
  );

function read<Value>(directory: string, otherwise: Value, act: (database: Database) => Value): Value {
  const path = pathOf(directory, "outbox");
  if (!existsSync(path)) return otherwise;
  try {
    using database = openReadOnly(path);
    return act(database);
  } catch (cause) {
    throw asStorageError(cause, `read ${path}`);
  }
}
