// SPDX-License-Identifier: Apache-2.0
/**
 * For every page of a guest: where its content is stored, and its hash. Starts as the parent checkpoint says, or empty;
 * ends as the map of a new one.
 *
 * 12 bytes a page (12 MB for 4 GiB), held while a checkpoint is taken and dropped with it.
 */
import type { MapChunk } from "#storage/pageFile.ts";
import type { PageReader } from "#storage/pageReader.ts";
import type { GuestRam } from "#vm/offload/guestRam.ts";
import type { CheckpointHead } from "./checkpointHead.ts";
import { layoutOf } from "./checkpointHead.ts";
import { extentOf, hashAt, indexOf } from "./extentPages.ts";
import type { PageHash } from "./pageHash.ts";
import { type ChunkRuns, chunkOf, chunkPages, readChunk, runsOf } from "./pageMap.ts";

export class PageTable {
  readonly locations: Uint32Array;
  readonly hashes: BigUint64Array;
  /** Name of each chunk as the parent has it, "" where it changed. */
  readonly #names: string[];

  constructor(
    readonly ram: GuestRam,
    hash: PageHash,
  ) {
    this.locations = new Uint32Array(ram.pages);
    this.hashes = new BigUint64Array(ram.pages).fill(hash.zero);
    this.#names = Array<string>(Math.ceil(ram.pages / chunkPages)).fill("");
  }

  /** Takes the pages of a parent with the same memory; without one, or where it is damaged, all pages count as new. */
  inherit(id: string, head: CheckpointHead, reader: PageReader): void {
    const { ram, chunks } = layoutOf(id, head);
    if (!sameLayout(ram, this.ram)) return;
    const hashes = new Map<number, Uint8Array>();
    chunks.forEach((name, chunk) => {
      const locations = readChunk(name, reader.chunk(name));
      const first = chunk * chunkPages;
      this.locations.set(locations.subarray(0, this.ram.pages - first), first);
      locations.forEach((location, index) => {
        if (location !== 0) this.hashes[first + index] = this.#hashOf(location, hashes, reader);
      });
      this.#names[chunk] = name;
    });
  }

  /** Page `page` is now stored at `location`. */
  put(page: number, location: number, hash: bigint): void {
    this.hashes[page] = hash;
    if (this.locations[page] === location) return;
    this.locations[page] = location;
    this.#names[Math.floor(page / chunkPages)] = "";
  }

  /** The chunks that changed, to be stored, and the names of all in order. */
  chunks(): { readonly changed: MapChunk[]; readonly runs: ChunkRuns; readonly names: readonly string[] } {
    const changed = new Map<string, MapChunk>();
    const names = this.#names.map((name, chunk) => {
      if (name !== "") return name;
      const made = chunkOf(this.locations.subarray(chunk * chunkPages, (chunk + 1) * chunkPages));
      changed.set(made.name, made);
      return made.name;
    });
    return { changed: [...changed.values()], runs: runsOf(names), names };
  }

  get filled(): number {
    return this.locations.reduce((count, location) => count + (location === 0 ? 0 : 1), 0);
  }

  /** A hash that cannot be read never matches: the page is stored again. */
  #hashOf(location: number, known: Map<number, Uint8Array>, reader: PageReader): bigint {
    const n = extentOf(location);
    let hashes = known.get(n);
    if (hashes === undefined) {
      hashes = reader.header(n)?.hashes ?? new Uint8Array(128);
      known.set(n, hashes);
    }
    return hashAt(hashes, indexOf(location));
  }
}

const sameLayout = (a: GuestRam, b: GuestRam): boolean =>
  a.regions.length === b.regions.length &&
  a.regions.every(({ gpa, bytes }, index) => gpa === b.regions[index]!.gpa && bytes === b.regions[index]!.bytes);
