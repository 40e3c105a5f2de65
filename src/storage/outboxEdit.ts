// SPDX-License-Identifier: Apache-2.0
/**
 * Small changes to an outbox from the command line: the trust list and the grant of a box. Gets a state directory and rows;
 * they are durable when it returns.
 *
 * Without a supervisor the directory is taken as one would. With one, this is a second writer for a moment: SQLite orders
 * the two, and the supervisor reads keys anew. Nothing is checked, migrated or set aside in a file that is in use. Blocks.
 */
import { existsSync } from "node:fs";
import { join } from "node:path";
import type { Clock } from "#clock.ts";
import { StorageError } from "#errors.ts";
import { asStorageError, fileSettings, openWritable, readNumber, transact } from "./database.ts";
import { Outbox, type OutboxRow, outboxFile } from "./outbox.ts";
import { claimDirectory, lockFile } from "./ownership.ts";
import { pathOf } from "./storedFile.ts";

export type OutboxEdit = Extract<OutboxRow, { kind: "key" | "note" }>;

/** @throws StorageError */
export function editOutbox(directory: string, rows: readonly OutboxEdit[], clock: Clock): void {
  claimDirectory(directory);
  let lock: Disposable;
  try {
    lock = lockFile(join(directory, "owner.lock"));
  } catch (error) {
    if (!(error instanceof StorageError) || error.code !== "storage.locked") throw error;
    editLive(directory, rows);
    return;
  }
  using _ = lock;
  const conditions = { atMs: clock.wallMs(), freeBytes: Number.POSITIVE_INFINITY, afterError: false, damage: null };
  using outbox = Outbox.open(directory, conditions, clock);
  outbox.write(rows);
}

function editLive(directory: string, rows: readonly OutboxEdit[]): void {
  const path = pathOf(directory, "outbox");
  if (!existsSync(path))
    throw new StorageError("storage.notFound", `the supervisor of ${directory} keeps no outbox yet`);
  try {
    using database = openWritable(path, fileSettings.outbox);
    if (readNumber(database, "PRAGMA user_version") < outboxFile.steps.length) {
      throw new StorageError("storage.newer", `${path} is in use by an older release; end it first`);
    }
    transact(database, () => {
      for (const { kind, id, atMs, head, ...rest } of rows) {
        const where = kind === "key" ? "id = ?" : "id = ? AND kind = ?";
        const group = "group" in rest ? [rest.group] : [];
        database.query(`DELETE FROM ${kind} WHERE ${where}`).run(id, ...group);
        if (head === null) continue;
        const columns =
          kind === "key" ? "(id, at_ms, head) VALUES (?, ?, ?)" : "(id, at_ms, head, kind) VALUES (?, ?, ?, ?)";
        database.query(`INSERT INTO ${kind} ${columns}`).run(id, atMs, head, ...group);
      }
    });
  } catch (cause) {
    throw asStorageError(cause, `change ${path}`);
  }
}
