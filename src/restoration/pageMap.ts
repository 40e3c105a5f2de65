// SPDX-License-Identifier: Apache-2.0
/**
 * Where each page of a guest is stored, in chunks of 512 that checkpoints share. Gets locations; gives chunks named by their
 * content, and locations back out of a chunk whose name is checked.
 */
import { StorageError } from "#errors.ts";
import type { MapChunk } from "#storage/pageFile.ts";
import { extentOf } from "./extentPages.ts";
import { sha256Hex } from "./pageHash.ts";

export const chunkPages = 512;
const chunkBytes = chunkPages * 4;

/** The chunk with these locations (at most 512; absent ones are zero pages). */
export function chunkOf(locations: Uint32Array): MapChunk {
  const full = new Uint32Array(chunkPages);
  full.set(locations);
  const raw = new Uint8Array(full.buffer);
  const extents = [...new Set(locations)].filter((location) => location !== 0).map(extentOf);
  return { name: sha256Hex(raw), body: Bun.zstdCompressSync(raw, { level: 1 }), extents: [...new Set(extents)] };
}

export const zeroChunk: MapChunk = chunkOf(new Uint32Array(chunkPages));

/** @throws StorageError storage.checkpointCorrupt */
export function readChunk(name: string, body: Uint8Array | null): Uint32Array {
  if (name === zeroChunk.name) return new Uint32Array(chunkPages);
  if (body === null) throw corrupt(name, "it is missing");
  let raw: Uint8Array;
  try {
    raw = Bun.zstdDecompressSync(body);
  } catch {
    throw corrupt(name, "it cannot be unpacked");
  }
  if (raw.length !== chunkBytes || sha256Hex(raw) !== name) throw corrupt(name, "it is not what its name says");
  return new Uint32Array(raw.slice().buffer);
}

/** Names of all chunks in order, as runs: long stretches of memory are never touched. */
export type ChunkRuns = readonly (readonly [name: string, count: number])[];

export function runsOf(names: readonly string[]): ChunkRuns {
  const runs: [string, number][] = [];
  for (const name of names) {
    const last = runs.at(-1);
    if (last?.[0] === name) last[1] += 1;
    else runs.push([name, 1]);
  }
  return runs;
}

export const namesOf = (runs: ChunkRuns): string[] => runs.flatMap(([name, count]) => Array<string>(count).fill(name));

const corrupt = (name: string, why: string): StorageError =>
  new StorageError("storage.checkpointCorrupt", `the page map is damaged: chunk ${name.slice(0, 8)}: ${why}`);
