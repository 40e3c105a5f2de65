// SPDX-License-Identifier: Apache-2.0
/**
 * How full the disk is, and the ballast: a file of real blocks that is given up so that the journal can go on. Gets a
 * directory and limits; gives a state. Blocks shortly (statfs), and for the flush of 32 MiB when the ballast is made.
 */
import { existsSync, renameSync, rmSync, statfsSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { growFile } from "./flush.ts";
import type { StorageLimits } from "./limits.ts";

export type Space = { readonly freeBytes: number; readonly totalBytes: number };
export type Fullness = "normal" | "tight" | "critical";

/** Room on the file system of `directory` for us; null where it cannot be told. */
export function readSpace(directory: string): Space | null {
  try {
    const { bavail, blocks, bsize } = statfsSync(directory);
    return { freeBytes: bavail * bsize, totalBytes: blocks * bsize };
  } catch {
    // The directory is gone or ill; the commit that follows says so in its own words.
    return null;
  }
}

/** What is not known is not called full: a commit that finds no room says so itself. */
export function fullness(space: Space | null, limits: StorageLimits): Fullness {
  if (space === null) return "normal";
  const { freeBytes, totalBytes } = space;
  if (freeBytes < limits.criticalFreeBytes) return "critical";
  return freeBytes < limits.tightFreeBytes || freeBytes < totalBytes * limits.tightFreeRatio ? "tight" : "normal";
}

const ballastPath = (directory: string): string => join(directory, "ballast");

/** Makes the ballast where it is missing. False where there is no room for it. */
export function makeBallast(directory: string, limits: StorageLimits): boolean {
  const path = ballastPath(directory);
  const unfinished = `${path}.part`;
  try {
    if (existsSync(path) && statSync(path).size === limits.ballastBytes) return true;
    writeFileSync(unfinished, "", { mode: 0o600 });
    growFile(unfinished, limits.ballastBytes);
    renameSync(unfinished, path);
    return true;
  } catch {
    // Without ballast the journal goes blind earlier, nothing else; half of one would only take room.
    rmSync(unfinished, { force: true });
    return false;
  }
}

/** Gives the ballast up. True where there was one. */
export function dropBallast(directory: string): boolean {
  const path = ballastPath(directory);
  if (!existsSync(path)) return false;
  rmSync(path, { force: true });
  return true;
}
