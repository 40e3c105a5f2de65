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
import { type Extent, goodColumn, PageReader } from "./pageReader.ts";
import {
  checkpointWal,
  type FileDefinition,
  type OpenConditions,
  type OpenedFile,
  openStored,
  walFrames,
} from "./storedFile.ts";

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
/** 16 KiB each. */
const vacuumPagesMax = 4_096;

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
  {
    name: "the seed of the page hashes",
    sql: "CREATE TABLE page_seed (seed BLOB NOT NULL) STRICT; INSERT INTO page_seed VALUES (randomblob(8));",
    check: "SELECT count(*) = 1 FROM page_seed",
  },
];
export const pagesFile: FileDefinition = { file: "pages", steps, bootCheck: "schema" };

export class PageFile implements Disposable {
  readonly opened: OpenedFile;
  readonly reader: PageReader;
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
    this.reader = new PageReader(opened.database);
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
          const link = this.#database.query(
            "INSERT INTO checkpoint_chunk (checkpoint, chunk) SELECT ?, id FROM map_chunk WHERE name = ?",
          );
          for (const name of new Set(seal.chunks)) link.run(seal.id, name);
        });
      } finally {
        setSynchronous(this.#database, 1);
      }
    });
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

  /** What became known of a checkpoint after it was sealed. */
  mark(checkpoint: string, mark: "good" | "bad" | "pinned" | "unpinned"): void {
    this.#try(`mark checkpoint ${checkpoint} ${mark}`, () => {
      if (mark === "good" || mark === "bad") {
        const bits = "UPDATE checkpoint SET good = good | ? WHERE id = ?";
        this.#database.query(bits).run(goodColumn[mark], checkpoint);
      } else {
        const pin = "UPDATE checkpoint SET pinned = ? WHERE id = ?";
        this.#database.query(pin).run(mark === "pinned" ? 1 : 0, checkpoint);
      }
    });
  }

  /** Keeps the order in which a guest first touched its pages. */
  storeTouchOrder(guest: string, atMs: number, body: Uint8Array): void {
    this.#try("store the touch order", () =>
      this.#database.query("INSERT OR REPLACE INTO touch (guest, at_ms, body) VALUES (?, ?, ?)").run(guest, atMs, body),
    );
  }

  /** Brings the WAL into the file, and gives some of the space of what was deleted back to the disk. */
  tidy(): void {
    this.#try("tidy the page file", () => {
      this.#database.run(`PRAGMA incremental_vacuum(${vacuumPagesMax})`);
      checkpointWal(this.#database, "TRUNCATE");
    });
  }

  [Symbol.dispose](): void {
    closeQuietly(this.#database);
  }

  #addExtent({ n, codec, hashes, identities, body }: Extent): void {
    if (n > extentNumberMax)
      throw new StorageError("storage.full", `the page file has used up its extent numbers`, { n });
    this.#database
      .query("INSERT INTO extent (n, codec, hashes, identities, body) VALUES (?, ?, ?, ?, ?)")
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
