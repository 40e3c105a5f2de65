// SPDX-License-Identifier: Apache-2.0
/**
 * A file that is brought to the box from a browser, slice by slice, beside the accounts of the page. Gets slices in their
 * order; gives a whole file at `uploadPath`, for whoever was asked to take it. One at a time: a new one ends the one before.
 *
 *     begin(size) ─▶ id      put(id, offset, slice) ─▶ how much is there      end(id) ─▶ the file is whole and on the disk
 *
 * Each slice is one request of at most `bodyBytesMax`, so memory stays flat and a lost connection costs one slice. Limits:
 * `uploadBytesMax`, and `freeBytesMin` of the disk stay free. What was begun and not ended is removed at the next start.
 */
import { closeSync, fsyncSync, mkdirSync, openSync, renameSync, rmSync, statfsSync, writeSync } from "node:fs";
import { join } from "node:path";
import { StatusError } from "#errors.ts";
import { newSecret } from "../access/accounts.ts";

export const uploadBytesMax = 2 * 2 ** 30;
const freeBytesMin = 64 * 2 ** 20;

/** Where a whole one is. The supervisor looks there and nowhere else: no path comes over the wire. */
export const uploadPath = (stateDirectory: string): string => join(stateDirectory, "page", "upload");
const partPath = (stateDirectory: string): string => `${uploadPath(stateDirectory)}.part`;

type Under = { readonly id: string; readonly file: number; readonly size: number; have: number };

export class Upload {
  #under: Under | null = null;

  constructor(private readonly directory: string) {
    rmSync(partPath(directory), { force: true });
  }

  /** @throws StatusError status.upload where there is no room for it */
  begin(size: number): string {
    this.drop();
    if (!Number.isSafeInteger(size) || size <= 0) throw refused("the file is empty");
    if (size > uploadBytesMax) throw refused(`a file may have at most ${uploadBytesMax} bytes`);
    mkdirSync(join(this.directory, "page"), { recursive: true, mode: 0o700 });
    const { bavail, bsize } = statfsSync(this.directory);
    if (size > bavail * bsize - freeBytesMin) throw refused("the disk of this box has no room for it");
    const id = newSecret().slice(0, 16);
    this.#under = { id, file: openSync(partPath(this.directory), "w", 0o600), size, have: 0 };
    return id;
  }

  /** Gives how many bytes are there. A slice that is there already is taken for the same one, sent again. @throws StatusError */
  put(id: string, offset: number, slice: Uint8Array): number {
    const under = this.#of(id);
    if (offset + slice.length <= under.have) return under.have;
    if (offset !== under.have) throw refused(`it goes on at byte ${under.have}`);
    if (offset + slice.length > under.size) throw refused("more comes than was said");
    try {
      for (let at = 0; at < slice.length; ) at += writeSync(under.file, slice, at, slice.length - at, offset + at);
    } catch (error) {
      this.drop();
      throw new StatusError("status.upload", "the disk does not take it", {}, error);
    }
    under.have += slice.length;
    return under.have;
  }

  /** @throws StatusError */
  end(id: string): void {
    const { file, size, have } = this.#of(id);
    if (have !== size) throw refused(`it goes on at byte ${have}`);
    try {
      fsyncSync(file);
      renameSync(partPath(this.directory), uploadPath(this.directory));
    } catch (error) {
      throw new StatusError("status.upload", "the disk does not take it", {}, error);
    } finally {
      closeSync(file);
      this.#under = null;
    }
  }

  drop(): void {
    if (this.#under === null) return;
    closeSync(this.#under.file);
    this.#under = null;
    rmSync(partPath(this.directory), { force: true });
  }

  #of(id: string): Under {
    if (this.#under === null || this.#under.id !== id) throw refused("another upload has begun since; begin anew");
    return this.#under;
  }
}

const refused = (why: string): StatusError => new StatusError("status.upload", why);
