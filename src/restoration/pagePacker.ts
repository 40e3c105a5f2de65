// SPDX-License-Identifier: Apache-2.0
/**
 * Stores pages that changed: each once, whoever has it. Gets pages with their hashes; fills the table with locations and the
 * page file with extents, in lazy commits.
 *
 * Limits: `batchExtents` a commit; `indexEntriesMax` identities known. Blocks as the disk does.
 */
import type { MapChunk, PageFile } from "#storage/pageFile.ts";
import type { Extent } from "#storage/pageReader.ts";
import { ExtentDraft, extentPages, locationOf } from "./extentPages.ts";
import { IdentityIndex } from "./identityIndex.ts";
import { identify, identityBytes, type PageHash } from "./pageHash.ts";
import type { PageTable } from "./pageTable.ts";

/** 4 MiB of guest memory a commit. */
const batchExtents = 64;
/** 1 GiB of guest memory, 20 MB of index. */
export const indexEntriesMax = 1 << 20;

export class PagePacker {
  readonly #draft = new ExtentDraft();
  readonly #identity = new Uint8Array(new ArrayBuffer(identityBytes));
  readonly #batch: Extent[] = [];
  #index: IdentityIndex | null = null;
  #n: number;
  added = 0;
  addedBytes = 0;

  constructor(
    private readonly file: PageFile,
    private readonly table: PageTable,
    private readonly hash: PageHash,
  ) {
    this.#n = file.nextExtent;
  }

  /** Stores a page as it is now, whatever it was before. */
  put(page: number, bytes: Uint8Array, hash: bigint): void {
    this.table.put(page, hash === this.hash.zero ? 0 : this.#place(bytes, hash), hash);
  }

  /** Everything that is still in memory goes to the file, with these chunks. */
  flush(chunks: readonly MapChunk[] = []): void {
    if (this.#draft.count > 0) this.#close();
    if (this.#batch.length > 0 || chunks.length > 0) this.file.write(this.#batch.splice(0), chunks);
  }

  #place(bytes: Uint8Array, hash: bigint): number {
    identify(bytes, this.#identity);
    const index = this.#known();
    const known = index.find(this.#identity);
    if (known !== 0) return known;
    const location = locationOf(this.#n, this.#draft.add(bytes, hash, this.#identity));
    index.add(this.#identity, location);
    this.added += 1;
    if (this.#draft.count === extentPages) this.#close();
    return location;
  }

  #close(): void {
    const extent = this.#draft.take(this.#n);
    this.addedBytes += extent.body.length;
    this.#batch.push(extent);
    this.#n += 1;
    if (this.#batch.length >= batchExtents) this.file.write(this.#batch.splice(0), []);
  }

  /** Loaded with the first page that changed: an idle guest needs none. */
  #known(): IdentityIndex {
    if (this.#index !== null) return this.#index;
    const stored = Math.min(this.#n * extentPages, indexEntriesMax);
    const index = new IdentityIndex(Math.max(stored * 2, this.table.ram.pages / 4));
    for (const { n, identities } of this.file.reader.headers(stored / extentPages)) {
      for (let at = 0; at < extentPages; at += 1) {
        if (isThere(identities, at)) index.add(identities, locationOf(n, at), at * identityBytes);
      }
    }
    this.#index = index;
    return index;
  }
}

/** An absent page's identity is zeros, which no content has. */
const isThere = (identities: Uint8Array, index: number): boolean =>
  new DataView(identities.buffer, identities.byteOffset + index * identityBytes).getBigUint64(0, true) !== 0n;
