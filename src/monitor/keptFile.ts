// SPDX-License-Identifier: Apache-2.0
/**
 * A small file of the kernel that is read again and again: kept open, one system call a read. Gives its text, "" where it is
 * empty, null where it is not there any more or never was.
 *
 * Limit: what is longer than `fileBytesMax` is cut. Source: proc(5); a read at position 0 makes the kernel write it anew.
 */
import { closeSync, openSync, readSync } from "node:fs";

const fileBytesMax = 16_384;
/** Reads are short and never overlap. */
const buffer = Buffer.alloc(fileBytesMax);

export class KeptFile implements Disposable {
  #descriptor: number | null;

  constructor(path: string) {
    try {
      this.#descriptor = openSync(path, "r");
    } catch {
      this.#descriptor = null; // Not there, or not ours to read.
    }
  }

  read(): string | null {
    if (this.#descriptor === null) return null;
    try {
      return buffer.toString("latin1", 0, readSync(this.#descriptor, buffer, 0, fileBytesMax, 0));
    } catch {
      return null; // What it tells of is gone.
    }
  }

  [Symbol.dispose](): void {
    if (this.#descriptor !== null) closeSync(this.#descriptor);
    this.#descriptor = null;
  }
}
