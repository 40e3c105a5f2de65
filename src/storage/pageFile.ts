// SPDX-License-Identifier: Apache-2.0
/**
 * The page file as its one writer, the checkpoint Worker, sees it. Gets extents and map chunks in batches, then one sealed
 * checkpoint; gives them back by name. What is in them is restoration's business.
 *
 * Extents and chunks commit lazily (`synchronous=NORMAL`); the checkpoint row comes last, in one transaction with a full
 * flush, which also covers the earlier WAL frames. No row, no checkpoint: at opening, what no sealed checkpoint reaches is
 * deleted. Extent numbers fit 28 bits. Every call blocks.
 */
import type { Database } from "bun:sqlite";
import { StorageError } from "#errors.ts";
import { asStorageError, closeQuietly, readNumber, setSynchronous, transact } from "./database.ts";
import type { StorageLimits } from "./limits.ts";
import type { Migration } from "./migrations.ts";
import {
  checkpointWal,
  type FileDefinition,
  type OpenConditions,
  type OpenedFile,
  openStored,
  walFrames,
} from "./storedFile.ts";

export type Extent = {
  readonly n: number;
  readonly codec: "raw" | "zstd";
  /** 16 hashes of 8 bytes (xxHash3) and 16 identities of 32 bytes (SHA-256), absent pages zero. */
  readonly hashes: Uint8Array;
  readonly identities: Uint8Array;
  readonly body: Uint8Array;
};
/** Named by the SHA-256 of its body, in hex, and shared between checkpoints. */
export type MapChunk = { readonly name: string; readonly body: Uint8Array; readonly extents: readonly number[] };
export type CheckpointSeal = {
  readonly id: string;
  readonly guest: string;
  readonly atMs: number;
  /** JSON: version, architecture, page size, regions with their chunk names, disk clones. */
  readonly head: string;
  readonly config: Uint8Array;
  readonly state: Uint8Array;
  readonly chunks: readonly string[];
};

const extentNumberMax = 2 ** 28 - 1;
const sweepRowsMax = 1_000;

const steps: readonly Migration[] = [
  {
    name: "extents, map chunks, checkpoints and touch order",
    sql: `
      CREATE TABLE extent (n INTEGER PRIMARY KEY, codec INTEGER NOT NULL, hashes BLOB NOT NULL, identities BLOB NOT NULL, body BLOB NOT NULL) STRICT;
      CREATE TABLE map_chunk (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, extents BLOB NOT NULL, body BLOB NOT NULL) STRICT;
      CREATE TABLE checkpoint (id TEXT PRIMARY KEY, guest TEXT NOT NULL, at_ms INTEGER NOT NULL, good INTEGER NOT NULL DEFAULT 0,
        pinned INTEGER NOT NULL DEFAULT 0, head TEXT NOT NULL, config BLOB NOT NULL, state BLOB NOT NULL) STRICT;
      CREATE TABLE checkpoint_chunk (checkpoint TEXT NOT NULL REFERENCES checkpoint(id) ON DELETE CASCADE,
        chunk INTEGER NOT NULL REFERENCES map_chunk(id), PRIMARY KEY (checkpoint, chunk)) STRICT, WITHOUT ROWID;
      CREATE TABLE touch (guest TEXT PRIMARY KEY, at_ms INTEGER NOT NULL, body BLOB NOT NULL) STRICT;`,
    check: "SELECT count(*) = 5 FROM sqlite_schema WHERE type = 'table'",
  },
];
export const pagesFile: FileDefinition = { file: "pages", steps, bootCheck: "schema" };

export class PageFile implements Disposable {
  readonly opened: OpenedFile;
  readonly #database: Database;
  readonly #limits: StorageLimits;

  /** Opens and sweeps what a half checkpoint left. @throws StorageError */
  static open(directory: string, conditions: OpenConditions, limits: StorageLimits): PageFile {
    const file = new PageFile(openStored(directory, pagesFile, conditions), limits);
    while (file.sweep());
    return file;
  }

  private constructor(opened: OpenedFile, limits: StorageLimits) {
    this.opened = opened;
    this.#database = opened.database;
    this.#limits = limits;
  }

  /** One lazy commit. Bounds the WAL, also when busy. @throws StorageError storage.full once extent numbers run out */
  write(extents: readonly Extent[], chunks: readonly MapChunk[]): void {
    this.#try(`commit ${extents.length} extents`, () => {
      transact(this.#database, () => {
        for (const extent of extents) this.#addExtent(extent);
        const addChunk = this.#database.query("INSERT OR IGNORE INTO map_chunk (name, extents, body) VALUES (?, ?, ?)");
        for (const { name, extents: reached, body } of chunks) addChunk.run(name, packNumbers(reached), body);
      });
      const { written, checkpointed } = walFrames(this.#database);
      const pageBytes = readNumber(this.#database, "PRAGMA page_size");
      if ((written - checkpointed) * pageBytes > this.#limits.walBytesMax * pagesWalRatio)
        checkpointWal(this.#database, "PASSIVE");
    });
  }

  /** The moment a checkpoint exists: durable, with all that was written before it, when this returns. @throws StorageError */
  seal(seal: CheckpointSeal): void {
    this.#try(`seal checkpoint ${seal.id}`, () => {
      setSynchronous(this.#database, 2);
      try {
        transact(this.#database, () => {
          this.#database
            .query("INSERT INTO checkpoint (id, guest, at_ms, head, config, state) VALUES (?, ?, ?, ?, ?, ?)")
            .run(seal.id, seal.guest, seal.atMs, seal.head, seal.config, seal.state);
          const link = this.#database.query("INSERT INTO checkpoint_chunk SELECT ?, id FROM map_chunk WHERE name = ?");
          for (const name of new Set(seal.chunks)) link.run(seal.id, name);
        });
      } finally {
        setSynchronous(this.#database, 1);
      }
    });
  }

  get checkpoints(): { id: string; guest: string; atMs: number; good: boolean; pinned: boolean }[] {
    return this.#database
      .query<{ id: string; guest: string; atMs: number; good: number; pinned: number }, []>(
        "SELECT id, guest, at_ms AS atMs, good, pinned FROM checkpoint ORDER BY at_ms DESC, id DESC",
      )
      .all()
      .map((row) => ({ ...row, good: row.good === 1, pinned: row.pinned === 1 }));
  }

  /** One stored extent, or null where there is none. */
  extent(n: number): Extent | null {
    const row = this.#database
      .query<Omit<Extent, "codec"> & { codec: number }, [number]>(
        "SELECT n, codec, hashes, identities, body FROM extent WHERE n = ?",
      )
      .get(n);
    return row === null ? null : { ...row, codec: row.codec === 0 ? "raw" : "zstd" };
  }

  chunk(name: string): Uint8Array | null {
    return (
      this.#database.query<{ body: Uint8Array }, [string]>("SELECT body FROM map_chunk WHERE name = ?").get(name)
        ?.body ?? null
    );
  }

  /** The first extent number that was never used in this file. */
  get nextExtent(): number {
    return readNumber(this.#database, "SELECT coalesce(max(n), 0) + 1 FROM extent");
  }

  /** Deletes some of what no sealed checkpoint reaches; not while one is being written. True where there is more. */
  sweep(): boolean {
    return this.#try("sweep", () =>
      transact(this.#database, () => {
        const chunks = this.#database
          .query(
            "DELETE FROM map_chunk WHERE id IN (SELECT id FROM map_chunk WHERE id NOT IN (SELECT chunk FROM checkpoint_chunk) LIMIT ?)",
          )
          .run(sweepRowsMax).changes;
        const reached = this.#reachedExtents();
        const gone = this.#database
          .query<{ n: number }, []>("SELECT n FROM extent")
          .all()
          .filter(({ n }) => !reached.has(n))
          .slice(0, sweepRowsMax);
        const remove = this.#database.query("DELETE FROM extent WHERE n = ?");
        for (const { n } of gone) remove.run(n);
        return chunks === sweepRowsMax || gone.length === sweepRowsMax;
      }),
    );
  }

  drop(checkpoint: string): void {
    this.#try(`drop checkpoint ${checkpoint}`, () =>
      this.#database.query("DELETE FROM checkpoint WHERE id = ?").run(checkpoint),
    );
  }

  [Symbol.dispose](): void {
    closeQuietly(this.#database);
  }

  #addExtent({ n, codec, hashes, identities, body }: Extent): void {
    if (n > extentNumberMax)
      throw new StorageError("storage.full", `the page file has used up its extent numbers`, { n });
    this.#database
      .query("INSERT INTO extent VALUES (?, ?, ?, ?, ?)")
      .run(n, codec === "raw" ? 0 : 1, hashes, identities, body);
  }

  #reachedExtents(): Set<number> {
    const reached = new Set<number>();
    for (const { extents } of this.#database
      .query<{ extents: Uint8Array }, []>("SELECT extents FROM map_chunk")
      .all()) {
      for (const n of unpackNumbers(extents)) reached.add(n);
    }
    return reached;
  }

  #try<Value>(tried: string, act: () => Value): Value {
    try {
      return act();
    } catch (cause) {
      throw asStorageError(cause, tried);
    }
  }
}

/** The hard bound of the page WAL is 256 MiB where that of the others is 32. */
const pagesWalRatio = 8;

const packNumbers = (numbers: readonly number[]): Uint8Array => new Uint8Array(Uint32Array.from(numbers).buffer);
/** The extent numbers that a map chunk reaches. */
export const unpackNumbers = (bytes: Uint8Array): Uint32Array => new Uint32Array(bytes.slice().buffer);
