// SPDX-License-Identifier: Apache-2.0
/**
 * The pages of a checkpoint, found and checked on demand: page number in, content out. Gets a reader and a checkpoint; reads
 * a map chunk at its first page and an extent at its first page, so that opening costs the same for any size of memory.
 *
 * Limits: `extentsKept` unpacked extents, 2 MB. Blocks as one prepared read each does.
 */
import { StorageError } from "#errors.ts";
import type { PageReader } from "#storage/pageReader.ts";
import type { GuestRam } from "#vm/offload/guestRam.ts";
import { pageBytes } from "#vm/offload/guestRam.ts";
import { type CheckpointHead, checkMessages, decodeHead, layoutOf } from "./checkpointHead.ts";
import { checkedPage, extentOf, indexOf, unpack } from "./extentPages.ts";
import { identify, identityBytes, PageHash } from "./pageHash.ts";
import { chunkPages, readChunk, zeroChunk } from "./pageMap.ts";

const extentsKept = 32;

/** Neighbours that one extent brings: pages of one chunk, with where each lies in the unpacked extent. */
export type ExtentPages = {
  readonly n: number;
  readonly hashes: Uint8Array;
  readonly bytes: Uint8Array;
};

export class LazyMap {
  readonly ram: GuestRam;
  readonly head: CheckpointHead;
  readonly config: string;
  readonly state: Uint8Array;
  readonly #chunks: readonly string[];
  readonly #open = new Map<number, Uint32Array>();
  readonly #extents = new Map<number, ExtentPages>();
  readonly #hash: PageHash;

  /** Everything but pages and map is checked here. @throws StorageError storage.notFound, storage.checkpointCorrupt */
  constructor(
    private readonly reader: PageReader,
    id: string,
  ) {
    const row = reader.checkpoint(id);
    if (row === null) throw new StorageError("storage.notFound", `there is no checkpoint ${JSON.stringify(id)}`);
    this.head = decodeHead(id, row.head);
    checkMessages(id, this.head, row.config, row.state);
    const { ram, chunks } = layoutOf(id, this.head);
    this.ram = ram;
    this.#chunks = chunks;
    this.config = new TextDecoder().decode(row.config);
    this.state = row.state;
    this.#hash = new PageHash(reader.seed);
  }

  get chunkCount(): number {
    return this.#chunks.length;
  }

  /** True where nothing of it has content: it need not be read. */
  isZeroChunk(chunk: number): boolean {
    return this.#chunks[chunk] === zeroChunk.name;
  }

  /** Locations of the 512 pages of a chunk. @throws StorageError storage.checkpointCorrupt */
  locations(chunk: number): Uint32Array {
    let found = this.#open.get(chunk);
    if (found === undefined) {
      const name = this.#chunks[chunk]!;
      found = readChunk(name, name === zeroChunk.name ? null : this.reader.chunk(name));
      this.#open.set(chunk, found);
    }
    return found;
  }

  location(page: number): number {
    return this.locations(Math.floor(page / chunkPages))[page % chunkPages]!;
  }

  /** An extent, unpacked. @throws StorageError storage.extentMissing, storage.pageCorrupt */
  extent(n: number): ExtentPages {
    const known = this.#extents.get(n);
    if (known !== undefined) return known;
    const stored = this.reader.extent(n);
    if (stored === null) throw new StorageError("storage.extentMissing", `extent ${n} is missing`, { extent: n });
    const pages = { n, hashes: stored.hashes, bytes: unpack(stored) };
    if (this.#extents.size >= extentsKept) this.#extents.delete(this.#extents.keys().next().value!);
    this.#extents.set(n, pages);
    return pages;
  }

  /** The extent of a location, for the pages beside it; null where it is damaged. */
  beside(location: number): ExtentPages | null {
    try {
      return this.extent(extentOf(location));
    } catch {
      // Its pages are looked for elsewhere, one by one, when they are asked for.
      return null;
    }
  }

  /** One page of an extent, checked; null where it is damaged. */
  page(extent: ExtentPages, index: number): Uint8Array | null {
    try {
      return checkedPage(extent, extent.bytes, index, this.#hash);
    } catch {
      // Whoever asked for this very page gets the error from `content`; a neighbour is left to be asked for.
      return null;
    }
  }

  /** The content at a location, from elsewhere where its own extent is damaged. @throws StorageError where it is lost */
  content(location: number): Uint8Array {
    try {
      const extent = this.extent(extentOf(location));
      return checkedPage(extent, extent.bytes, indexOf(location), this.#hash);
    } catch (error) {
      const elsewhere = this.#elsewhere(location);
      if (elsewhere === null) throw error;
      return elsewhere;
    }
  }

  /** The same page by its identity in another extent. */
  #elsewhere(location: number): Uint8Array | null {
    const header = this.reader.header(extentOf(location));
    if (header === null) return null;
    const at = indexOf(location) * identityBytes;
    const identity = header.identities.subarray(at, at + identityBytes);
    const found = new Uint8Array(identityBytes);
    for (const other of this.reader.withIdentity(identity)) {
      if (other.n === header.n) continue;
      try {
        const bytes = unpack(other);
        for (let from = 0; from < bytes.length; from += pageBytes) {
          const page = bytes.subarray(from, from + pageBytes);
          identify(page, found);
          if (Buffer.compare(found, identity) === 0) return page;
        }
      } catch {
        // Damaged as well: the next one.
      }
    }
    return null;
  }
}
