// SPDX-License-Identifier: Apache-2.0
/**
 * A release goes back by one: files that the next one has migrated are read and written, and lose nothing of either.
 *
 * The next release is played by what its steps may do (storage/migrations.ts: steps only add): a column in every table, one
 * more table, the version one higher. Every statement that writes runs on real files after that.
 */
import { Database } from "bun:sqlite";
import { afterEach, beforeEach, expect, test } from "bun:test";
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { systemClock } from "#clock.ts";
import { backUp, checkCopy } from "#storage/backup.ts";
import { readEntries, readMessages, readOutboxMemory } from "#storage/cursorReader.ts";
import { fileNames } from "#storage/database.ts";
import { verifyDirectory } from "#storage/inspect.ts";
import { defaultLimits } from "#storage/limits.ts";
import type { LaneName } from "#storage/messages.ts";
import { editOutbox } from "#storage/outboxEdit.ts";
import { readNotes } from "#storage/outboxReader.ts";
import { exportCheckpoint } from "#storage/pageExport.ts";
import { PageFile } from "#storage/pageFile.ts";
import { eventRow, namedRow } from "#storage/rows.ts";
import { pathOf } from "#storage/storedFile.ts";
import { Writer } from "#storage/writer.ts";

const conditions = { atMs: 0, freeBytes: 1e12, afterError: false, damage: null };
const minuteMs = 60_000;

let scratch = "";
beforeEach(() => {
  scratch = mkdtempSync(join(tmpdir(), "holdfast-downgrade-"));
  mkdirSync(directory(), { mode: 0o700 });
});
afterEach(() => rmSync(scratch, { recursive: true, force: true }));
const directory = (): string => join(scratch, "state");

/** One row of every kind, on all four files; `turn` tells this time from another. */
function writeAll(turn: number): void {
  const writer = new Writer(systemClock);
  const write = (file: LaneName, rows: readonly unknown[]): void => {
    const answer = writer.answer({ kind: "write", file, again: false, rows: rows as never });
    expect(answer).toMatchObject({ kind: "written" });
  };
  expect(writer.answer({ kind: "start", directory: directory(), limits: defaultLimits }).kind).toBe("started");
  const atMs = systemClock.wallMs();
  const [id, head] = [`${turn}`, JSON.stringify({ turn })];
  write("journal", [
    eventRow(`e-${turn}`, { event: "turn", workload: "redis", facts: { turn } }, atMs),
    namedRow("learned", `site-${turn}`, { turn }, atMs),
    namedRow("window", `window-${turn}`, { turn }, atMs),
  ]);
  write("outbox", [
    { kind: "message", id, class: "fault", topic: "t", retained: false, atMs, head, body: new Uint8Array(3) },
    { kind: "job", id, atMs, head },
    { kind: "key", id, atMs, head },
    { kind: "command", id, key: "k", counter: turn, atMs },
    { kind: "note", group: "g", id, atMs, head },
    { kind: "cursor", name: "c", n: turn },
  ]);
  const sample = { kind: "sample", name: "level", workload: "redis", unit: "%" };
  write(
    "history",
    [5, 4, 3].map((minutes) => ({ ...sample, atMs: atMs - minutes * minuteMs, value: turn })),
  );
  for (let rounds = 0; rounds < 10; rounds += 1) expect(writer.answer({ kind: "upkeep" }).kind).toBe("kept");
  writer.answer({ kind: "close" });
  writeCheckpoint(turn);
}

function writeCheckpoint(turn: number): void {
  using pages = PageFile.open(directory(), conditions, defaultLimits);
  const n = pages.nextExtent;
  const bytes = (length: number): Uint8Array => new Uint8Array(length).fill(turn);
  pages.write(
    [{ n, codec: "raw", hashes: bytes(128), identities: bytes(512), body: bytes(60_000) }],
    [{ name: `chunk-${turn}`, body: bytes(9), extents: [n] }],
  );
  const seal = { id: `c${turn}`, guest: "g", atMs: turn, head: "{}", config: bytes(9), state: bytes(9) };
  pages.seal({ ...seal, chunks: [`chunk-${turn}`] });
  pages.mark(`c${turn}`, "good");
  pages.storeTouchOrder("g", turn, bytes(8));
}

/** What the next release's steps leave behind; what it wrote into its own column is `next`. */
function migrateToNext(): void {
  for (const file of fileNames) {
    using database = new Database(pathOf(directory(), file));
    const tables = database
      .query<{ name: string }, []>("SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'")
      .all();
    expect(tables.length).toBeGreaterThan(1);
    for (const { name } of tables) {
      database.run(`ALTER TABLE ${name} ADD COLUMN next_release TEXT`);
      database.run(`UPDATE ${name} SET next_release = 'next'`);
    }
    database.run("CREATE TABLE next_release (id INTEGER PRIMARY KEY) STRICT");
    const { user_version: version } = database.query<{ user_version: number }, []>("PRAGMA user_version").get()!;
    database.run(`PRAGMA user_version = ${version + 1}`);
  }
}

test("what the next release has migrated is read and written, checked, backed up and exported", () => {
  writeAll(1);
  migrateToNext();
  writeAll(2);

  const memory = readOutboxMemory(directory());
  expect([...memory.jobs.keys()]).toEqual(["1", "2"]);
  expect([...memory.keys.keys()]).toEqual(["1", "2"]);
  expect(memory.commands.map(({ counter }) => counter)).toEqual([1, 2]);
  expect(memory.cursors.get("c")).toBe(2);
  expect(readMessages(directory(), 0, 10).map(({ id }) => id)).toEqual(["1", "2"]);
  expect(readNotes(directory()).map(({ id }) => id)).toEqual(["1", "2"]);
  expect(readEntries(directory(), 0, 10)).toHaveLength(2);
  using history = new Database(pathOf(directory(), "history"), { readonly: true });
  for (const table of ["minute", "hour"]) {
    const folded = history.query<{ value: number }, []>(`SELECT max(greatest) AS value FROM ${table}`).get();
    expect(folded).toEqual({ value: 2 });
  }
  for (const check of verifyDirectory(directory(), true)) expect(check).toMatchObject({ problems: [] });

  editOutbox(directory(), [{ kind: "key", id: "1", atMs: 1, head: null }], systemClock);
  expect([...readOutboxMemory(directory()).keys.keys()]).toEqual(["2"]);
  for (const { path, file } of backUp(directory(), join(scratch, "backup")))
    expect(checkCopy(path, file)).toBeGreaterThan(0);
  expect(exportCheckpoint(directory(), "c1", join(scratch, "exported"))).toBe(1);

  using journal = new Database(pathOf(directory(), "journal"), { readonly: true });
  const kept = journal.query<{ name: string; next_release: string | null }, []>(
    "SELECT name, next_release FROM learned",
  );
  expect(kept.all()).toEqual([
    { name: "site-1", next_release: "next" },
    { name: "site-2", next_release: null },
  ]);
});
