// SPDX-License-Identifier: Apache-2.0
/**
 * What telemetry, status and the command line read by cursor: entries of the journal, samples and curves of the history,
 * messages of the outbox. Gets a state directory and the last number seen; gives what came after it.
 *
 * Read-only. Each call opens, reads and closes, so no read transaction stays open and a file that was set aside meanwhile is
 * not read for ever. Only durable rows are ever seen. @throws StorageError in all of them where the file cannot be read.
 */
import type { Database } from "bun:sqlite";
import { existsSync } from "node:fs";
import type { FileName } from "./database.ts";
import { asStorageError, openReadOnly } from "./database.ts";
import { type MessageClass, messageClasses } from "./outbox.ts";
import { type RowKind, readHeadOrNull } from "./rows.ts";
import { pathOf } from "./storedFile.ts";

/** Rows that one call gives at most. */
export const readRowsMax = 10_000;

export type JournalEntry = {
  readonly n: number;
  readonly id: string;
  readonly kind: RowKind;
  readonly atMs: number;
  /** FaultHead, IntentHead, OutcomeHead or EventHead by kind (rows.ts); null where the row is damaged. */
  readonly head: unknown;
};

/** Entries after number `after`, oldest first. */
export function readEntries(
  directory: string,
  after: number,
  limit: number,
  kind: RowKind | null = null,
): JournalEntry[] {
  return read(directory, "journal", [], (database) =>
    database
      .query<{ n: number; id: string; kind: RowKind; at_ms: number; head: string }, [number, string | null, number]>(
        "SELECT n, id, kind, at_ms, head FROM entry WHERE n > ?1 AND (?2 IS NULL OR kind = ?2) ORDER BY n LIMIT ?3",
      )
      .all(after, kind, bound(limit))
      .map(({ n, id, kind: rowKind, at_ms, head }) => ({
        n,
        id,
        kind: rowKind,
        atMs: at_ms,
        head: readHeadOrNull<unknown>(head),
      })),
  );
}

export type Sample = {
  readonly n: number;
  readonly name: string;
  readonly workload: string;
  readonly unit: string;
  readonly atMs: number;
  readonly value: number;
};

/** Raw samples after number `after`, oldest first. */
export function readSamples(directory: string, after: number, limit: number): Sample[] {
  return read(directory, "history", [], (database) =>
    database
      .query<Sample, [number, number]>(
        `SELECT n, name, workload, unit, at_ms AS atMs, value FROM raw JOIN series ON series.id = raw.series
         WHERE n > ? ORDER BY n LIMIT ?`,
      )
      .all(after, bound(limit)),
  );
}

export type CurvePoint = {
  /** Start of the interval that the point stands for. */
  readonly atMs: number;
  readonly count: number;
  readonly mean: number;
  readonly least: number;
  readonly greatest: number;
  readonly last: number;
};
export type Resolution = "raw" | "minute" | "hour";

/** A series from `fromMs` to before `toMs` in the finest resolution that needs at most `limit` points. */
export function readCurve(
  directory: string,
  series: { readonly name: string; readonly workload: string },
  span: { readonly fromMs: number; readonly toMs: number; readonly limit: number },
): { readonly resolution: Resolution; readonly points: readonly CurvePoint[] } {
  const limit = bound(span.limit);
  return read<{ resolution: Resolution; points: CurvePoint[] }>(
    directory,
    "history",
    { resolution: "raw", points: [] },
    (database) => {
      const points = (table: Resolution): CurvePoint[] =>
        database
          .query<CurvePoint, [string, string, number, number, number]>(
            `SELECT ${table === "raw" ? rawColumns : foldedColumns} FROM ${table} JOIN series ON series.id = ${table}.series
           WHERE name = ? AND workload = ? AND at_ms >= ? AND at_ms < ? ORDER BY at_ms LIMIT ?`,
          )
          .all(series.name, series.workload, span.fromMs, span.toMs, limit + 1);
      const started = (table: Resolution): number => oldest(database, table);
      for (const resolution of ["raw", "minute"] as const) {
        const found = points(resolution);
        // The finer table is enough where it reaches back as far as the coarser one does.
        if (
          found.length <= limit &&
          (started(resolution) <= span.fromMs || started(resolution) < started("hour") + hourMs)
        ) {
          return { resolution, points: found };
        }
      }
      return { resolution: "hour", points: points("hour").slice(0, limit) };
    },
  );
}

export type SeriesName = { readonly name: string; readonly workload: string; readonly unit: string };

export function readSeriesNames(directory: string): SeriesName[] {
  return read(directory, "history", [], (database) =>
    database.query<SeriesName, []>("SELECT name, workload, unit FROM series ORDER BY name, workload").all(),
  );
}

export type OutboxMessage = {
  readonly n: number;
  readonly id: string;
  readonly class: MessageClass;
  readonly topic: string;
  readonly retained: boolean;
  readonly atMs: number;
  readonly head: unknown;
  readonly body: Uint8Array;
};

/** Messages after number `after` that nobody has acknowledged, oldest first. */
export function readMessages(directory: string, after: number, limit: number): OutboxMessage[] {
  type Row = Omit<OutboxMessage, "class" | "retained" | "head"> & { class: number; retained: number; head: string };
  return read(directory, "outbox", [], (database) =>
    database
      .query<Row, [number, number]>(
        "SELECT n, id, class, topic, retained, at_ms AS atMs, head, body FROM message WHERE n > ? ORDER BY n LIMIT ?",
      )
      .all(after, bound(limit))
      .map((row) => ({
        ...row,
        class: messageClasses[row.class] ?? "info",
        retained: row.retained === 1,
        head: readHeadOrNull<unknown>(row.head),
      })),
  );
}

export type OutboxMemory = {
  readonly jobs: ReadonlyMap<string, unknown>;
  readonly keys: ReadonlyMap<string, unknown>;
  readonly commands: readonly { readonly id: string; readonly key: string; readonly counter: number }[];
  readonly cursors: ReadonlyMap<string, number>;
  readonly dropped: readonly {
    readonly class: MessageClass;
    readonly rows: number;
    readonly fromMs: number;
    readonly toMs: number;
  }[];
  readonly messages: number;
  readonly oldestMs: number | null;
};

/** All of the outbox but its messages: what a publisher takes into memory at start. */
export function readOutboxMemory(directory: string): OutboxMemory {
  const none = {
    jobs: new Map(),
    keys: new Map(),
    commands: [],
    cursors: new Map(),
    dropped: [],
    messages: 0,
    oldestMs: null,
  };
  return read<OutboxMemory>(directory, "outbox", none, (database) => {
    const named = (table: "job" | "key"): Map<string, unknown> =>
      new Map(
        database
          .query<{ id: string; head: string }, []>(`SELECT id, head FROM ${table} ORDER BY at_ms`)
          .all()
          .map(({ id, head }) => [id, readHeadOrNull<unknown>(head)]),
      );
    const depth = database
      .query<{ messages: number; oldestMs: number | null }, []>(
        "SELECT count(*) AS messages, min(at_ms) AS oldestMs FROM message",
      )
      .get();
    return {
      jobs: named("job"),
      keys: named("key"),
      commands: database.query<OutboxMemory["commands"][number], []>("SELECT id, key, counter FROM command").all(),
      cursors: new Map(
        database
          .query<{ name: string; n: number }, []>("SELECT name, n FROM cursor")
          .all()
          .map(({ name, n }) => [name, n]),
      ),
      dropped: database
        .query<{ class: number; rows: number; fromMs: number; toMs: number }, []>(
          "SELECT class, rows, from_ms AS fromMs, to_ms AS toMs FROM dropped",
        )
        .all()
        .map((row) => ({ ...row, class: messageClasses[row.class] ?? "info" })),
      messages: depth?.messages ?? 0,
      oldestMs: depth?.oldestMs ?? null,
    };
  });
}

const hourMs = 3_600_000;
const rawColumns = "at_ms AS atMs, 1 AS count, value AS mean, value AS least, value AS greatest, value AS last";
const foldedColumns = "at_ms AS atMs, count, sum / count AS mean, least, greatest, last";

const bound = (limit: number): number => Math.max(0, Math.min(Math.floor(limit), readRowsMax));

function oldest(database: Database, table: Resolution): number {
  const order =
    table === "raw" ? "SELECT at_ms AS at FROM raw ORDER BY n LIMIT 1" : `SELECT min(at_ms) AS at FROM ${table}`;
  return database.query<{ at: number | null }, []>(order).get()?.at ?? Number.POSITIVE_INFINITY;
}

function read<Value>(directory: string, file: FileName, otherwise: Value, act: (database: Database) => Value): Value {
  const path = pathOf(directory, file);
  if (!existsSync(path)) return otherwise;
  try {
    using database = openReadOnly(path);
    return act(database);
  } catch (cause) {
    throw asStorageError(cause, `read ${path}`);
  }
}
