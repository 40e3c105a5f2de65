// SPDX-License-Identifier: Apache-2.0
/**
 * Flushes of files and directories that SQLite does not do for us. Gets paths; returns when they are on the disk. Blocks:
 * Worker and command line only.
 */
import { closeSync, fdatasyncSync, fstatSync, fsyncSync, ftruncateSync, mkdirSync, openSync, writeSync } from "node:fs";
import { dirname } from "node:path";

const chunkBytes = 256 * 1024;

/** Makes the names in `directory` durable. */
export function syncDirectory(directory: string): void {
  const descriptor = openSync(directory, "r");
  try {
    fsyncSync(descriptor);
  } finally {
    closeSync(descriptor);
  }
}

export function syncFile(path: string): void {
  const descriptor = openSync(path, "r+");
  try {
    fsyncSync(descriptor);
  } finally {
    closeSync(descriptor);
  }
}

/** Makes `directory` and what is missing above it, durably, closed to others. */
export function makeDirectory(directory: string): void {
  const first = mkdirSync(directory, { recursive: true, mode: 0o700 });
  if (first === undefined) return;
  for (let path = directory; path.length >= first.length; path = dirname(path)) syncDirectory(dirname(path));
}

/**
 * Extends `path` with zeros that take real blocks, up to `bytes`. SQLite reads a WAL up to the first frame that is not
 * valid, so zeros behind it are no content; a commit that overwrites blocks costs one flush instead of a flush and a
 * change of the file's size (measured on ext4: 136 against 260 µs for a single row). Where there is no room the file is as
 * it was before. @throws the system's error
 */
export function growFile(path: string, bytes: number): void {
  const descriptor = openSync(path, "r+");
  const before = fstatSync(descriptor).size;
  try {
    const zeros = Buffer.alloc(chunkBytes);
    for (let at = before; at < bytes; ) at += writeSync(descriptor, zeros, 0, Math.min(chunkBytes, bytes - at), at);
    fdatasyncSync(descriptor);
  } catch (error) {
    ftruncateSync(descriptor, before);
    throw error;
  } finally {
    closeSync(descriptor);
  }
}
