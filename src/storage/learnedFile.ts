// SPDX-License-Identifier: Apache-2.0
/**
 * Records of experience of a state directory, from outside of its supervisor: read at any time, written only where none
 * runs. Gets a directory; gives the records by name. Blocks: command line only.
 */
import { existsSync } from "node:fs";
import { join } from "node:path";
import type { Clock } from "#clock.ts";
import { asStorageError, openReadOnly } from "./database.ts";
import { Journal, readNamed } from "./journal.ts";
import { claimDirectory, lockFile } from "./ownership.ts";
import { namedRow } from "./rows.ts";
import { readSpace } from "./space.ts";
import { pathOf } from "./storedFile.ts";

/** Empty where nothing is kept yet. @throws StorageError */
export function readLearned(directory: string): ReadonlyMap<string, unknown> {
  const path = pathOf(directory, "journal");
  if (!existsSync(path)) return new Map();
  try {
    using database = openReadOnly(path);
    return readNamed(database, "learned");
  } catch (cause) {
    throw asStorageError(cause, `read ${path}`);
  }
}

/** Writes records by name, null removes one. @throws StorageError storage.locked while a supervisor runs */
export function writeLearned(directory: string, records: ReadonlyMap<string, unknown>, clock: Clock): void {
  claimDirectory(directory);
  using _lock = lockFile(join(directory, "owner.lock"));
  const atMs = clock.wallMs();
  const freeBytes = readSpace(directory)?.freeBytes ?? 0;
  using journal = Journal.open(directory, { atMs, freeBytes, afterError: false, damage: null }, clock);
  journal.write([...records].map(([name, record]) => namedRow("learned", name, record, atMs)));
}
