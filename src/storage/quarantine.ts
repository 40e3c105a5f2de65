// SPDX-License-Identifier: Apache-2.0
/**
 * Damaged files are set aside, never overwritten. Gets a directory and the name of a file; moves the file, its WAL and its
 * index together into `quarantine/`, and says where they are.
 *
 * The newest sets of each file stay, within a number and a number of bytes; the newest one always stays. Blocks.
 */
import { existsSync, mkdirSync, readdirSync, renameSync, rmSync, statSync } from "node:fs";
import { join } from "node:path";
import { StorageError } from "#errors.ts";
import type { FileName } from "./database.ts";
import { syncDirectory } from "./flush.ts";
import type { StorageLimits } from "./limits.ts";

export type QuarantineSet = {
  readonly file: FileName;
  readonly directory: string;
  /** The database file in it. */
  readonly path: string;
  readonly bytes: number;
};

const parts = ["", "-wal", "-shm"] as const;
/** Sets of one file in one second. */
const sameSecondMax = 100;

/** @throws StorageError storage.io where the files cannot be moved */
export function quarantine(directory: string, file: FileName, atMs: number): QuarantineSet {
  const source = join(directory, `${file}.db`);
  try {
    const target = makeSet(directory, file, atMs);
    for (const part of parts) {
      if (existsSync(source + part)) renameSync(source + part, join(target, `${file}.db${part}`));
    }
    syncDirectory(target);
    syncDirectory(directory);
    return readSet(file, target);
  } catch (cause) {
    throw new StorageError("storage.io", `cannot set aside the damaged ${source}`, {}, cause);
  }
}

/** All sets, newest first. Empty where there is no quarantine. */
export function listQuarantine(directory: string): QuarantineSet[] {
  const top = join(directory, "quarantine");
  if (!existsSync(top)) return [];
  return readdirSync(top)
    .sort((a, b) => (stampOf(a) < stampOf(b) ? 1 : -1))
    .flatMap((name) => {
      const file = name.slice(0, name.indexOf("-")) as FileName;
      return existsSync(join(top, name, `${file}.db`)) ? [readSet(file, join(top, name))] : [];
    });
}

/** Removes what is over the limits. Gives the sets that went. */
export function pruneQuarantine(directory: string, limits: StorageLimits): QuarantineSet[] {
  const kept = new Map<FileName, number>();
  let bytes = 0;
  const gone: QuarantineSet[] = [];
  for (const set of listQuarantine(directory)) {
    const before = kept.get(set.file) ?? 0;
    bytes += set.bytes;
    kept.set(set.file, before + 1);
    if (before === 0 || (before < limits.quarantineSetsMax && bytes <= limits.quarantineBytesMax)) continue;
    rmSync(set.directory, { recursive: true, force: true });
    bytes -= set.bytes;
    gone.push(set);
  }
  return gone;
}

function makeSet(directory: string, file: FileName, atMs: number): string {
  const stamp = new Date(atMs).toISOString().replaceAll(/\D/g, "").slice(0, 14);
  mkdirSync(join(directory, "quarantine"), { recursive: true, mode: 0o700 });
  for (let count = 0; count < sameSecondMax; count += 1) {
    const target = join(directory, "quarantine", `${file}-${stamp}-${String(count).padStart(2, "0")}`);
    if (existsSync(target)) continue;
    mkdirSync(target, { mode: 0o700 });
    return target;
  }
  throw new StorageError("storage.io", `${sameSecondMax} damaged ${file} files in one second`);
}

const stampOf = (name: string): string => name.slice(name.indexOf("-") + 1);

function readSet(file: FileName, directory: string): QuarantineSet {
  const path = join(directory, `${file}.db`);
  const bytes = parts.reduce((sum, part) => sum + (existsSync(path + part) ? statSync(path + part).size : 0), 0);
  return { file, directory, path, bytes };
}
