// SPDX-License-Identifier: Apache-2.0
/**
 * The page file for those who only read it: restores, the command line, and the checkpoint Worker before it writes.
 *
 * Gets a connection or a state directory; gives rows by name. What is in them is restoration's business. Each call is one
 * statement and keeps no read transaction. Every call blocks.
 */
import type { Database } from "bun:sqlite";
import { existsSync } from "node:fs";
import { StorageError } from "#errors.ts";
import { asStorageError, closeQuietly, openReadOnly } from "./database.ts";

export type Extent = {
  readonly n: number;
  readonly codec: "raw" | "zstd";
  /** 16 hashes of 8 bytes (xxHash3) and 16 identities of 32 bytes (SHA-256), absent pages zero. */
  readonly hashes: Uint8Array;
  readonly identities: Uint8Array;
  readonly body: Uint8Array;
};
export type ExtentHeader = Pick<Extent, "n" | "hashes" | "identities">;

export type CheckpointRow = {
  readonly id: string;
  readonly guest: string;
  readonly atMs: number;
  /** The guest ran a probation without a fault after it. */
  readonly good: boolean;
  readonly pinned: boolean;
  /** Damage was found in it: no restore uses it. */
  readonly bad: boolean;
  readonly head: string;
};
type Raw = Omit<CheckpointRow, "good" | "pinned" | "bad"> & { good: number; pinned: number };
const goodBit = 1;
const badBit = 2;
/** How `good` is stored: the last release knew only 0 and 1. */
export const goodColumn = { none: 0, good: goodBit, bad: badBit } as const;

export class PageReader implements Disposable {
  /** `owned`: closed with this. */
  constructor(
    private readonly database: Database,
    private readonly owned = false,
  ) {}

  /** Opens the page file at `path` read-only. @throws StorageError storage.notFound where there is none */
  static open(path: string): PageReader {
    if (!existsSync(path)) throw new StorageError("storage.notFound", `there are no checkpoints in ${path}`);
    return new PageReader(openReadOnly(path), true);
  }

  /** Newest first. */
  get checkpoints(): CheckpointRow[] {
    return this.#try("list checkpoints", () =>
      this.database
        .query<Raw, []>(
          "SELECT id, guest, at_ms AS atMs, good, pinned, head FROM checkpoint ORDER BY at_ms DESC, id DESC",
        )
        .all()
        .map(rowOf),
    );
  }

  checkpoint(id: string): (CheckpointRow & { readonly config: Uint8Array; readonly state: Uint8Array }) | null {
    return this.#try(`read checkpoint ${id}`, () => {
      const row = this.database
        .query<Raw & { config: Uint8Array; state: Uint8Array }, [string]>(
          "SELECT id, guest, at_ms AS atMs, good, pinned, head, config, state FROM checkpoint WHERE id = ?",
        )
        .get(id);
      return row === null ? null : { ...rowOf(row), config: row.config, state: row.state };
    });
  }

  /** One stored extent, or null where there is none. */
  extent(n: number): Extent | null {
    return this.#try(`read extent ${n}`, () => {
      const row = this.database
        .query<Omit<Extent, "codec"> & { codec: number }, [number]>(
          "SELECT n, codec, hashes, identities, body FROM extent WHERE n = ?",
        )
        .get(n);
      return row === null ? null : { ...row, codec: row.codec === 0 ? "raw" : "zstd" };
    });
  }

  /** What an extent holds, without the pages. */
  header(n: number): ExtentHeader | null {
    return this.#try(`read the head of extent ${n}`, () =>
      this.database.query<ExtentHeader, [number]>("SELECT n, hashes, identities FROM extent WHERE n = ?").get(n),
    );
  }

  /** The heads of the newest extents, newest first. */
  headers(limit: number): IterableIterator<ExtentHeader> {
    return this.database
      .query<ExtentHeader, [number]>("SELECT n, hashes, identities FROM extent ORDER BY n DESC LIMIT ?")
      .iterate(limit);
  }

  /** Extents that hold a page with this identity. Slow: it looks at all of them. */
  *withIdentity(identity: Uint8Array): Generator<Extent> {
    const select = "SELECT n, codec, hashes, identities, body FROM extent WHERE instr(identities, ?) > 0 LIMIT 8";
    for (const row of this.database
      .query<Omit<Extent, "codec"> & { codec: number }, [Uint8Array]>(select)
      .all(identity)) {
      yield { ...row, codec: row.codec === 0 ? "raw" : "zstd" };
    }
  }

  chunk(name: string): Uint8Array | null {
    return this.#try(`read map chunk ${name.slice(0, 8)}`, () => {
      const select = "SELECT body FROM map_chunk WHERE name = ?";
      return this.database.query<{ body: Uint8Array }, [string]>(select).get(name)?.body ?? null;
    });
  }

  /** The order in which the guest first touched its pages after its last restore, packed; null where none is known. */
  touchOrder(guest: string): Uint8Array | null {
    return this.#try("read the touch order", () => {
      const select = "SELECT body FROM touch WHERE guest = ?";
      return this.database.query<{ body: Uint8Array }, [string]>(select).get(guest)?.body ?? null;
    });
  }

  /** The secret by which pages are hashed here. */
  get seed(): bigint {
    return this.#try("read the seed", () => {
      const row = this.database.query<{ seed: Uint8Array }, []>("SELECT seed FROM page_seed").get();
      if (row?.seed.length !== 8) throw new StorageError("storage.corrupt", "the page file has lost its seed");
      return new DataView(row.seed.buffer, row.seed.byteOffset, 8).getBigUint64(0, true);
    });
  }

  [Symbol.dispose](): void {
    if (this.owned) closeQuietly(this.database);
  }

  #try<Value>(tried: string, act: () => Value): Value {
    try {
      return act();
    } catch (cause) {
      throw asStorageError(cause, tried);
    }
  }
}

const rowOf = ({ good, pinned, ...row }: Raw): CheckpointRow => ({
  ...row,
  good: (good & goodBit) !== 0 && (good & badBit) === 0,
  bad: (good & badBit) !== 0,
  pinned: pinned === 1,
});
