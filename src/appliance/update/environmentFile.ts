// SPDX-License-Identifier: Apache-2.0
/**
 * The boot loader's environment in its file. Gets a path; reads it, and changes it so that a power cut at any moment leaves
 * the old or the new one: in place, never emptied, only the sectors that differ, flushed, and read back.
 *
 * grub-editenv opens the file with truncation and then writes it: cut in between, the file is empty, and it refuses to work
 * on that ever after (measured with 2.06). Here a file that is lost is made anew beside it, and renamed. Blocks.
 */
import { closeSync, fstatSync, fsyncSync, openSync, readFileSync, readSync, renameSync, writeSync } from "node:fs";
import { dirname } from "node:path";
import { UpdateError } from "#errors.ts";
import { environmentBytes, formatEnvironment, parseEnvironment, sectorBytes } from "./slotEnvironment.ts";

/** null where it is lost: not there, or no environment. */
export function readEnvironment(path: string): Map<string, string> | null {
  try {
    return parseEnvironment(readFileSync(path));
  } catch {
    return null; // Not there, or unreadable: whoever asks goes on as the boot loader does.
  }
}

/** @throws UpdateError update.environment where it cannot be written, or is not what was written */
export function writeEnvironment(path: string, entries: ReadonlyMap<string, string>): void {
  const wanted = formatEnvironment(entries);
  try {
    if (!overwrite(path, wanted)) makeAnew(path, wanted);
    const kept = readFileSync(path);
    if (kept.equals(wanted)) return;
  } catch (cause) {
    throw new UpdateError("update.environment", `cannot write the boot loader's environment ${path}`, {}, cause);
  }
  throw new UpdateError("update.environment", `${path} does not hold what was written to it: its disk is ill`);
}

/** False where there is no file of the right size to be overwritten. */
function overwrite(path: string, wanted: Uint8Array): boolean {
  let file: number;
  try {
    file = openSync(path, "r+");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return false;
    throw error;
  }
  try {
    if (fstatSync(file).size !== environmentBytes) return false;
    const present = new Uint8Array(environmentBytes);
    readSync(file, present, 0, environmentBytes, 0);
    for (let at = 0; at < environmentBytes; at += sectorBytes) {
      const sector = wanted.subarray(at, at + sectorBytes);
      if (Buffer.compare(sector, present.subarray(at, at + sectorBytes)) === 0) continue;
      writeSync(file, sector, 0, sectorBytes, at);
    }
    fsyncSync(file);
    return true;
  } finally {
    closeSync(file);
  }
}

function makeAnew(path: string, wanted: Uint8Array): void {
  const fresh = `${path}.new`;
  const file = openSync(fresh, "w", 0o644);
  try {
    writeSync(file, wanted);
    fsyncSync(file);
  } finally {
    closeSync(file);
  }
  renameSync(fresh, path);
  const folder = openSync(dirname(path), "r");
  try {
    fsyncSync(folder);
  } finally {
    closeSync(folder);
  }
}
