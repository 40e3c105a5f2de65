// SPDX-License-Identifier: Apache-2.0
/**
 * All that is done with the page file by its one writer, in the checkpoint Worker: taking, marking, deleting, keeping house.
 *
 * Gets one order at a time; each blocks until it is done. The page file is opened at the first order that needs it, so a box
 * without guests has none.
 */
import { mkdirSync, rmSync } from "node:fs";
import { systemClock } from "#clock.ts";
import { StorageError } from "#errors.ts";
import { defaultLimits } from "#storage/limits.ts";
import { PageFile } from "#storage/pageFile.ts";
import type { CheckpointRow } from "#storage/pageReader.ts";
import { fullness, readSpace } from "#storage/space.ts";
import { decodeHead } from "./checkpointHead.ts";
import { importCheckpoint } from "./importCheckpoint.ts";
import { type Keep, superfluous } from "./retention.ts";
import { type CheckpointOrder, CheckpointTaking, type Held, type Sealed } from "./takeCheckpoint.ts";
import { type Damage, verifyCheckpoint } from "./verifyCheckpoint.ts";

export class CheckpointStore implements Disposable {
  #file: PageFile | null = null;
  #taking: CheckpointTaking | null = null;

  constructor(private readonly directory: string) {}

  /** Newest first. */
  rows(): CheckpointRow[] {
    return this.#open().reader.checkpoints;
  }

  /** Takes one; the guest runs again when this returns. `tell` hears where it listens, and the connection's descriptor. */
  take(
    order: CheckpointOrder,
    tell: (news: { listening: true } | { descriptor: number } | { still: true }) => void,
  ): Held {
    this.#refuseWhenFull(order.guest);
    this.#taking = new CheckpointTaking(order, this.#open());
    try {
      tell({ listening: true });
      tell({ descriptor: this.#taking.connect() });
      return this.#taking.receive(() => tell({ still: true }));
    } catch (error) {
      this.discard();
      throw error;
    }
  }

  /** Makes the one that was taken last exist. */
  seal(): Sealed {
    const taking = this.#taking;
    if (taking === null) throw new StorageError("storage.notFound", "no checkpoint waits to be sealed");
    try {
      const sealed = taking.seal();
      taking[Symbol.dispose]();
      this.#taking = null;
      return sealed;
    } catch (error) {
      this.discard();
      throw error;
    }
  }

  /** Nothing of the one that was taken last is kept. */
  discard(): void {
    this.#taking?.discard();
    this.#taking?.[Symbol.dispose]();
    this.#taking = null;
    while (this.#open().sweep());
  }

  mark(id: string, mark: "good" | "bad" | "pinned" | "unpinned"): void {
    this.#require(id);
    this.#open().mark(id, mark);
  }

  /** Deletes it and its disks; gives its guest. */
  drop(id: string): string {
    const { guest, head } = this.#require(id);
    this.#open().drop(id);
    try {
      for (const { clone } of decodeHead(id, head).disks) rmSync(clone, { force: true });
    } catch {
      // A damaged head names no clones that could be trusted: they stay beside their disk.
    }
    while (this.#open().sweep());
    this.#open().tidy();
    return guest;
  }

  /** Deletes what a guest has too much of; gives their ids. */
  retain(guest: string, keep: Keep): string[] {
    const own = this.#open()
      .reader.checkpoints.filter((row) => row.guest === guest)
      .map((row) => ({ ...row, bytes: addedBytes(row.id, row.head) }));
    const gone = superfluous(own, keep, systemClock.wallMs());
    for (const id of gone) this.drop(id);
    return gone;
  }

  touched(guest: string, order: Uint8Array): void {
    this.#open().storeTouchOrder(guest, systemClock.wallMs(), order);
  }

  verify(id: string): Damage {
    const damage = verifyCheckpoint(this.#open().reader, id);
    if (damage.problems.length > 0) this.#open().mark(id, "bad");
    return damage;
  }

  /** Takes in what `export` wrote; gives the ids. */
  import(path: string): string[] {
    this.#refuseWhenFull("import");
    return importCheckpoint(this.#open(), path);
  }

  [Symbol.dispose](): void {
    this.#taking?.[Symbol.dispose]();
    this.#file?.[Symbol.dispose]();
  }

  #require(id: string): { readonly guest: string; readonly head: string } {
    const row = this.#open().reader.checkpoint(id);
    if (row !== null) return row;
    throw new StorageError("storage.notFound", `there is no checkpoint ${JSON.stringify(id)}`);
  }

  #open(): PageFile {
    if (this.#file !== null) return this.#file;
    mkdirSync(this.directory, { recursive: true, mode: 0o700 });
    const freeBytes = readSpace(this.directory)?.freeBytes ?? 0;
    const conditions = { atMs: systemClock.wallMs(), freeBytes, afterError: false, damage: null };
    this.#file = PageFile.open(this.directory, conditions, defaultLimits);
    return this.#file;
  }

  /** Before any call: a guest is not stopped for a checkpoint that has no room. */
  #refuseWhenFull(guest: string): void {
    const space = readSpace(existing(this.directory));
    // A disk that does not say how full it is refuses the pages itself.
    if (space === null || fullness(space, defaultLimits) === "normal" || space.freeBytes > roomBytes) return;
    const message = "the disk is too full for another checkpoint; delete some, or make room";
    throw new StorageError("storage.full", message, { freeBytes: space.freeBytes, guest });
  }
}

/** On a large disk a tenth is more than any checkpoint wants. */
const roomBytes = 4 * 2 ** 30;

/** A damaged one counts for nothing. */
function addedBytes(id: string, head: string): number {
  try {
    return decodeHead(id, head).pages.addedBytes;
  } catch {
    return 0;
  }
}

/** Before the first checkpoint there is no directory. */
function existing(directory: string): string {
  mkdirSync(directory, { recursive: true, mode: 0o700 });
  return directory;
}
