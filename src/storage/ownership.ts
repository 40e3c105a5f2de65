// SPDX-License-Identifier: Apache-2.0
/**
 * Who may use a state directory: where it is, that it is ours and private, and that no other supervisor holds it.
 *
 * The lock is SQLite's exclusive lock on an empty file. It is a record lock of the kernel: it dies with the process
 * however that dies, nothing forked inherits it, and it writes nothing, so it works on a full disk. (flock(2) would do,
 * but native calls belong to board/native and storage may not import board.)
 */
import { Database } from "bun:sqlite";
import {
  chmodSync,
  lstatSync,
  readdirSync,
  readFileSync,
  realpathSync,
  type Stats,
  statfsSync,
  statSync,
} from "node:fs";
import { basename, dirname, join, resolve } from "node:path";
import { StorageError } from "#errors.ts";
import { makeDirectory } from "./flush.ts";

const tmpfsMagic = 0x01021994;
const ramfsMagic = 0x858458f6;
const sharedMemory = "/dev/shm";

export type Environment = Readonly<Record<string, string | undefined>>;

/** STATE: `/var/lib/holdfast` for root, else `$XDG_STATE_HOME/holdfast` or `~/.local/state/holdfast`. */
export function defaultStateDirectory(environment: Environment, userId: number): string {
  if (userId === 0) return "/var/lib/holdfast";
  const home = environment.XDG_STATE_HOME || join(environment.HOME || "/", ".local/state");
  return join(home, "holdfast");
}

/** The run directory: `/run/holdfast` for root, else `$XDG_RUNTIME_DIR/holdfast`, else one in shared memory. */
export function defaultRunDirectory(environment: Environment, userId: number): string {
  if (userId === 0) return "/run/holdfast";
  return environment.XDG_RUNTIME_DIR
    ? join(environment.XDG_RUNTIME_DIR, "holdfast")
    : `${sharedMemory}/holdfast-${userId}`;
}

/** The directory of the guard called `name` in `stateDirectory`. */
export const guardDirectory = (stateDirectory: string, name: string): string => join(stateDirectory, "guards", name);

/**
 * Where the ring of a state directory is: in `runDirectory` if that is memory, else (containers often have /run on disk,
 * where a write can wait for the file system's own commit) in shared memory if there is some. Keyed by the state directory.
 */
export function ringPath(runDirectory: string, stateDirectory: string): string {
  const key = Bun.hash.xxHash3(realPath(stateDirectory)).toString(16).padStart(16, "0");
  const place = isMemory(runDirectory) || !isMemory(sharedMemory) ? runDirectory : ourSharedMemory();
  return join(place, "rings", `${key}.ring`);
}

/** Makes the directory of a ring. Ours in shared memory is claimed with it: anybody may make a directory there. */
export function claimRingDirectory(path: string): void {
  const directory = dirname(path);
  if (dirname(directory) === ourSharedMemory()) claimDirectory(ourSharedMemory());
  claimDirectory(directory);
}

const ourSharedMemory = (): string => `${sharedMemory}/holdfast-${userId()}`;

/**
 * Makes `directory` if needed and sees that it is a directory, ours, and closed to others. One that is open to others is
 * closed, but only if nothing else is in it: somebody may have given us /tmp. @throws StorageError storage.owner storage.io
 */
export function claimDirectory(directory: string): void {
  let stat: Stats;
  try {
    makeDirectory(directory);
    // A link is as good as what it leads to if it is ours: in /tmp or shared memory anybody can put one.
    stat = lstatSync(directory);
    if (stat.isSymbolicLink() && stat.uid === userId()) stat = statSync(directory);
  } catch (cause) {
    throw new StorageError("storage.io", `cannot use ${directory}`, {}, cause);
  }
  if (!stat.isDirectory()) throw new StorageError("storage.owner", `${directory} is not a directory of ours`);
  if (stat.uid !== userId()) {
    throw new StorageError("storage.owner", `${directory} belongs to somebody else; give another one with --state`, {
      owner: stat.uid,
      us: userId(),
    });
  }
  if ((stat.mode & 0o077) !== 0) closeToOthers(directory, stat.mode & 0o7777);
}

function closeToOthers(directory: string, mode: number): void {
  const context = { mode: `0${mode.toString(8)}` };
  try {
    const names = readdirSync(directory);
    if (names.length === 0 || names.some((name) => ourNames.test(name))) {
      chmodSync(directory, 0o700);
      return;
    }
  } catch (cause) {
    throw new StorageError("storage.owner", `${directory} is open to others and cannot be closed`, context, cause);
  }
  const advice = "give a directory of its own with --state";
  throw new StorageError("storage.owner", `${directory} is open to others and holds other things; ${advice}`, context);
}

/** Files by which a directory is known to be one of ours. */
const ourNames = /^(owner\.lock|journal\.db|[0-9a-f]{16}\.ring|guards|rings)$/;

/** Takes the exclusive lock `path` until it is disposed or we die. @throws StorageError storage.locked storage.io */
export function lockFile(path: string): Disposable {
  let lock: Database | undefined;
  try {
    lock = new Database(path, { create: true, readwrite: true });
    lock.run("PRAGMA busy_timeout = 0");
    // Nothing is ever committed here; a journal on disk would be the only thing written.
    lock.run("PRAGMA journal_mode = MEMORY");
    lock.run("BEGIN EXCLUSIVE");
  } catch (cause) {
    lock?.close();
    if (!isBusy(cause)) throw new StorageError("storage.io", `cannot lock ${path}`, {}, cause);
    const holder = holderOf(path);
    const who = holder === null ? "another supervisor" : `another supervisor (process ${holder})`;
    throw new StorageError("storage.locked", `${who} holds ${path}; stop it, or choose another --name or --state`);
  }
  const held = lock;
  return { [Symbol.dispose]: () => held.close() };
}

const userId = (): number => process.geteuid?.() ?? 0;

const isBusy = (error: unknown): boolean =>
  error instanceof Error && "code" in error && String(error.code).startsWith("SQLITE_BUSY");

/** The same for a directory before and after it is made. */
function realPath(directory: string): string {
  const path = resolve(directory);
  try {
    return realpathSync(path);
  } catch {
    // Not there yet: its name below the real path of its parent.
    return path === "/" ? path : join(realPath(dirname(path)), basename(path));
  }
}

/** True where what is at `place`, or the nearest parent that exists, is in memory. */
export function isMemory(place: string): boolean {
  for (let path = resolve(place); ; path = resolve(path, "..")) {
    try {
      const { type } = statfsSync(path);
      return type === tmpfsMagic || type === ramfsMagic;
    } catch {
      if (path === "/") return false;
    }
  }
}

/** The process that holds a lock on `path` according to /proc/locks, or null. */
export function holderOf(path: string): number | null {
  try {
    const inode = statSync(path).ino;
    for (const line of readFileSync("/proc/locks", "latin1").split("\n")) {
      const [, , , mode, pid, place] = line.split(/\s+/);
      if (mode === "WRITE" && place?.endsWith(`:${inode}`)) return Number(pid);
    }
  } catch {
    // Only the message is poorer for it.
  }
  return null;
}
