// SPDX-License-Identifier: Apache-2.0
/**
 * Rings that nobody will come back for: their supervisor was killed and their state directory is gone. Gets the directory of
 * the rings; removes those that have been quiet for a day. A ring is memory, so they would be kept until the next boot.
 */
import { existsSync, readdirSync, rmSync, statSync } from "node:fs";
import { join } from "node:path";
import { ringOwner } from "./intentRing.ts";
import { lockFile } from "./ownership.ts";

/** Rings that one start looks at. */
const ringsMax = 256;
const quietMs = 86_400_000;

/** Gives the number of rings removed. Never throws: what cannot be removed stays. */
export function sweepRings(directory: string, nowMs: number): number {
  const names = readdirSync(directory).filter((name) => name.endsWith(".ring"));
  return names.slice(0, ringsMax).filter((name) => removeIfLeft(join(directory, name), nowMs)).length;
}

function removeIfLeft(path: string, nowMs: number): boolean {
  const stat = statSync(path, { throwIfNoEntry: false });
  if (stat === undefined || nowMs - stat.mtimeMs < quietMs) return false;
  const owner = ringOwner(path);
  if (owner === null || existsSync(owner)) return false;
  try {
    using _lock = lockFile(`${path}.lock`);
    for (const part of ["", ".state", ".lock"]) rmSync(`${path}${part}`, { force: true });
    return true;
  } catch {
    // Somebody holds it: a supervisor whose directory is missing keeps everything in its ring.
    return false;
  }
}
