// SPDX-License-Identifier: Apache-2.0
/**
 * Files that only ever grow, kept within a limit. Gets a path and a limit; keeps the newest bytes and one older part.
 *
 * The writer holds its file open in append mode, so it goes on at the new end once the file is cut to nothing. What is
 * written between the copy and the cut is lost: a log may lose a line then, and nothing else is kept this way.
 */
import { copyFileSync, statSync, truncateSync } from "node:fs";
import { open } from "node:fs/promises";

/** Moves the content to `PATH.1` once it has more than `bytesMax`; so at most twice that is kept. True where it did. */
export function capFile(path: string, bytesMax: number): boolean {
  const size = statSync(path, { throwIfNoEntry: false })?.size ?? 0;
  if (size <= bytesMax) return false;
  copyFileSync(path, `${path}.1`);
  truncateSync(path, 0);
  return true;
}

/** The last `bytesMax` bytes as text, or "" where there is no file. */
export async function tailOf(path: string, bytesMax: number): Promise<string> {
  const file = Bun.file(path);
  if (!(await file.exists())) return "";
  return await file.slice(Math.max(0, file.size - bytesMax)).text();
}

/** Reads what lies from `offset` to the end, at most `bytesMax`. Shorter files are read from their start. */
export async function readFrom(
  path: string,
  offset: number,
  bytesMax: number,
): Promise<{ bytes: Uint8Array; at: number }> {
  await using file = await open(path, "r");
  const { size } = await file.stat();
  const from = size < offset ? 0 : offset;
  const bytes = new Uint8Array(Math.min(bytesMax, size - from));
  const { bytesRead } = await file.read(bytes, 0, bytes.length, from);
  return { bytes: bytes.subarray(0, bytesRead), at: from + bytesRead };
}
