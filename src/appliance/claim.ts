// SPDX-License-Identifier: Apache-2.0
/**
 * The name of a guard, taken for as long as we live. Gets what is to be guarded and, if the user gave one, the name;
 * gives the guard's run directory, locked, and the program of an earlier supervisor that still runs under that name.
 *
 * Without a name a started program is called after its file, and the second one beside it NAME-2; but a program that
 * was started by the same command in the same directory, and whose supervisor is dead, is taken over under the name it
 * has. A process that is on record under some name keeps that name. The lock is the kernel's: it dies with us.
 */
import { existsSync, readdirSync, rmdirSync, rmSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { explain, ProgramError, StorageError } from "#errors.ts";
import { claimDirectory, guardDirectory, holderOf, lockFile } from "#storage/ownership.ts";
import { type RunRecord, readRunRecord } from "./runRecord.ts";

export const namePattern = /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/;
/** Room for the number behind it. */
const ownNameMax = 60;
/** Guards of one program side by side that are named without being asked. */
const numberMax = 99;
const lockTries = 3;

export type Claim = Disposable & {
  readonly name: string;
  readonly runDirectory: string;
  /** The program that runs under this name and has no supervisor; null where there is none. */
  readonly running: RunRecord | null;
};

export type Wanted =
  | { readonly kind: "command"; readonly command: readonly string[]; readonly directory: string }
  | { readonly kind: "pid"; readonly pid: number }
  /** Whatever runs under that name: who asks knows it by more than its command. */
  | { readonly kind: "named"; readonly name: string };

/** @throws StorageError "storage.locked", "storage.io", "storage.owner"; ProgramError "program.busy" */
export function claimGuard(root: string, name: string | undefined, wanted: Wanted): Claim {
  if (wanted.kind === "named") return lockName(root, wanted.name);
  if (wanted.kind === "pid") return claimForProcess(root, name, wanted.pid);
  if (name === undefined) return claimFreeName(root, wanted.command, wanted.directory);
  const claim = lockName(root, name);
  const { running } = claim;
  if (running === null || sameWords(running.command, wanted.command)) return claim;
  claim[Symbol.dispose]();
  throw inUse(name, running);
}

function claimForProcess(root: string, name: string | undefined, pid: number): Claim {
  const known = namesIn(root).find((other) => readRunRecord(guardDirectory(root, other))?.pid === pid);
  if (known !== undefined && name !== undefined && name !== known) {
    const holder = holderOf(lockOf(root, known));
    const who = holder === null ? `leave --name out, or say --name ${known}` : `process ${holder} guards it`;
    throw new ProgramError("program.busy", `process ${pid} is on record under the name ${known}; ${who}`);
  }
  const claim = lockName(root, name ?? known ?? `pid-${pid}`);
  const { running } = claim;
  if (running === null || running.pid === pid) return claim;
  claim[Symbol.dispose]();
  throw inUse(claim.name, running);
}

function claimFreeName(root: string, command: readonly string[], directory: string): Claim {
  const own = nameOf(command[0]!);
  let free: Claim | null = null;
  for (let number = 1; number <= numberMax; number += 1) {
    const name = number === 1 ? own : `${own}-${number}`;
    const there = existsSync(guardDirectory(root, name));
    const running = there ? readRunRecord(guardDirectory(root, name)) : null;
    const orphan = running !== null && running.directory === directory && sameWords(running.command, command);
    const claim: Claim | null = orphan || (running === null && free === null) ? tryLock(root, name) : null;
    if (orphan && claim !== null) {
      free?.[Symbol.dispose]();
      return claim;
    }
    free ??= claim;
    if (!there) break;
  }
  if (free !== null) return free;
  throw new ProgramError("program.busy", `${numberMax} guards of ${own} run already; choose a --name for this one`);
}

/** A name that follows from the program's file. */
export function nameOf(file: string): string {
  const name = basename(file)
    .replace(/[^A-Za-z0-9._-]/g, "-")
    .replace(/^[^A-Za-z0-9]+/, "")
    .slice(0, ownNameMax);
  return namePattern.test(name) ? name : "program";
}

function tryLock(root: string, name: string): Claim | null {
  try {
    return lockName(root, name);
  } catch (error) {
    if (error instanceof StorageError && error.code === "storage.locked") return null;
    throw error;
  }
}

function lockName(root: string, name: string): Claim {
  const runDirectory = guardDirectory(root, name);
  try {
    const lock = lockStanding(root, name);
    const running = readRunRecord(runDirectory);
    return { name, runDirectory, running, [Symbol.dispose]: () => unlock(runDirectory, lock) };
  } catch (error) {
    if (!(error instanceof StorageError)) throw error;
    if (error.code === "storage.locked") {
      const holder = holderOf(lockOf(root, name));
      const who = holder === null ? "another supervisor" : `another supervisor (process ${holder})`;
      throw new StorageError(
        "storage.locked",
        `${who} guards under the name ${name}; stop it, or choose another --name`,
      );
    }
    throw new StorageError(
      error.code,
      `the run directory ${runDirectory} cannot be used: ${oneLine(explain(error))}; make it writable, or set XDG_RUNTIME_DIR to a folder of yours`,
    );
  }
}

/** A lock on a file that is still the one of that name: the guard before us may have removed it as we opened it. */
function lockStanding(root: string, name: string): Disposable {
  const runDirectory = guardDirectory(root, name);
  for (let tries = 1; ; tries += 1) {
    try {
      for (const folder of [root, dirname(runDirectory), runDirectory]) claimDirectory(folder);
      const lock = lockFile(lockOf(root, name));
      const holder = holderOf(lockOf(root, name));
      if (existsSync(lockOf(root, name)) && (holder === null || holder === process.pid)) return lock;
      lock[Symbol.dispose]();
    } catch (error) {
      const removed = error instanceof StorageError && error.code === "storage.io" && !existsSync(lockOf(root, name));
      if (!removed || tries >= lockTries) throw error;
    }
    if (tries >= lockTries) throw new StorageError("storage.locked", `${name} comes and goes`);
  }
}

/** Gives the name back. Where its program runs on without us, its record stays for whoever takes it over. */
function unlock(runDirectory: string, lock: Disposable): void {
  try {
    if (readRunRecord(runDirectory) === null) {
      rmSync(join(runDirectory, "lock"), { force: true });
      rmdirSync(runDirectory);
    }
  } catch {
    // Not empty, or not ours to remove: it costs a few bytes of memory until the next boot.
  }
  lock[Symbol.dispose]();
}

const lockOf = (root: string, name: string): string => join(guardDirectory(root, name), "lock");

function namesIn(root: string): string[] {
  try {
    return readdirSync(dirname(guardDirectory(root, "x")));
  } catch {
    return []; // No guard was here before.
  }
}

const sameWords = (some: readonly string[] | null, other: readonly string[]): boolean =>
  some !== null && some.length === other.length && some.every((word, index) => word === other[index]);

function inUse(name: string, { pid, command }: RunRecord): ProgramError {
  const what = command === null ? "" : ` (${command.join(" ").slice(0, 80)})`;
  return new ProgramError(
    "program.busy",
    `the name ${name} belongs to process ${pid}${what}, which still runs; guard that one with --name ${name} --pid ${pid}, or choose another --name`,
  );
}

const oneLine = (text: string): string => text.replaceAll(/\s*\n\s*/g, "; ");
