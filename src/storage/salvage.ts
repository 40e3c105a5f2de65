// SPDX-License-Identifier: Apache-2.0
/**
 * Copies what can still be read out of a damaged file into the new one, newest rows first. Gets the set in quarantine, the
 * new connection and the tables in order of worth; gives back control after each slice of time.
 *
 * A part that cannot be read is narrowed to one row, then jumped over by gaps that double. Bounded by rows, by failed
 * attempts and by the caller's slices. Rows that are there already are left alone. Blocks for a slice.
 */
import type { Database, SQLQueryBindings } from "bun:sqlite";
import type { Clock } from "#clock.ts";
import { explain } from "#errors.ts";
import { closeQuietly, openReadOnly, transact } from "./database.ts";
import type { QuarantineSet } from "./quarantine.ts";

export type SalvageTable = {
  readonly name: string;
  readonly columns: readonly string[];
  /** Column with JSON text that a row must have whole to be worth keeping; null where there is none. */
  readonly json: string | null;
};

const rowsMax = 20_000;
const attemptsMax = 2_000;
const chunkRowsMax = 128;
/** Where a walk starts when the newest row number cannot be read; halved until something can. */
const farAway = 2 ** 41;

type Row = Record<string, SQLQueryBindings>;

export class Salvage implements Disposable {
  readonly #target: Database;
  readonly #tables: readonly SalvageTable[];
  readonly #clock: Clock;
  #source: Database | undefined;
  #table = 0;
  #below = 0;
  #gap = 1;
  #exact = false;
  #chunkRows = chunkRowsMax;
  #attempts = 0;
  #copied = 0;
  /** Why nothing could be read at all; "" where something could. */
  readonly trouble: string;

  constructor(set: QuarantineSet, target: Database, tables: readonly SalvageTable[], clock: Clock) {
    this.#target = target;
    this.#tables = tables;
    this.#clock = clock;
    let trouble = "";
    try {
      this.#source = openReadOnly(set.path);
      this.#source.query("SELECT count(*) FROM sqlite_schema").get();
    } catch (error) {
      trouble = explain(error);
      this[Symbol.dispose]();
    }
    this.trouble = trouble;
    this.#enterTable();
  }

  get copied(): number {
    return this.#copied;
  }

  /** Works for about `budgetMs`. False once there is nothing more to do. @throws what writing to the new file threw */
  step(budgetMs: number): boolean {
    const endNs = this.#clock.monotonicNs() + budgetMs * 1e6;
    while (this.#source !== undefined) {
      const table = this.#tables[this.#table];
      if (table === undefined || this.#copied >= rowsMax || this.#attempts >= attemptsMax) {
        this[Symbol.dispose]();
        break;
      }
      this.#copyChunk(table);
      if (this.#clock.monotonicNs() >= endNs) break;
    }
    return this.#source !== undefined;
  }

  /** Number of the newest row of a table, or null where it cannot be read. */
  newest(table: string): number | null {
    try {
      const row = this.#source?.query<{ n: number | null }, []>(`SELECT max(rowid) AS n FROM ${table}`).get();
      return row?.n ?? null;
    } catch {
      // The rightmost page is the damaged one.
      return null;
    }
  }

  [Symbol.dispose](): void {
    closeQuietly(this.#source);
    this.#source = undefined;
  }

  #enterTable(): void {
    const table = this.#tables[this.#table];
    if (table === undefined) return;
    const newest = this.newest(table.name);
    this.#exact = newest !== null;
    this.#below = newest === null ? farAway : newest + 1;
    this.#gap = 1;
    this.#chunkRows = chunkRowsMax;
  }

  #copyChunk(table: SalvageTable): void {
    const rows = this.#readChunk(table);
    if (rows === null) this.#retreat();
    else if (rows.length === 0) this.#nextTable();
    else this.#keepRows(table, rows);
  }

  #keepRows(table: SalvageTable, rows: readonly Row[]): void {
    const wanted = rows.filter((row) => table.json === null || isJson(row[table.json]));
    const insert = this.#target.query<unknown, SQLQueryBindings[]>(
      `INSERT OR IGNORE INTO ${table.name} (${table.columns.join(", ")}) VALUES (${table.columns.map(() => "?").join(", ")})`,
    );
    transact(this.#target, () => {
      for (const row of wanted) insert.run(...table.columns.map((column) => row[column] ?? null));
    });
    this.#copied += wanted.length;
    this.#below = Number(rows.at(-1)!.row_number);
    this.#exact = true;
    this.#gap = 1;
    this.#chunkRows = Math.min(chunkRowsMax, this.#chunkRows * 2);
  }

  #readChunk(table: SalvageTable): Row[] | null {
    try {
      return this.#source!.query<Row, [number, number]>(
        `SELECT rowid AS row_number, ${table.columns.join(", ")} FROM ${table.name}
         WHERE rowid < ? ORDER BY rowid DESC LIMIT ?`,
      ).all(this.#below, this.#chunkRows);
    } catch {
      // This part is damaged: that is why we are here.
      this.#attempts += 1;
      return null;
    }
  }

  #retreat(): void {
    if (this.#chunkRows > 1) {
      this.#chunkRows = Math.ceil(this.#chunkRows / 4);
      return;
    }
    this.#below = this.#exact ? this.#below - this.#gap : Math.floor(this.#below / 2);
    this.#gap *= 2;
    if (this.#below <= 1) this.#nextTable();
  }

  #nextTable(): void {
    this.#table += 1;
    this.#enterTable();
  }
}

function isJson(value: SQLQueryBindings | undefined): boolean {
  if (typeof value !== "string") return false;
  try {
    JSON.parse(value);
    return true;
  } catch {
    // A flipped bit in the text: the row is not what was written.
    return false;
  }
}
