// SPDX-License-Identifier: Apache-2.0
/**
 * Small files of the kernel that are read again and again. `KeptFile` stays open: one system call a read. `readSmall` opens
 * and closes. Both read into one buffer that stays: the runtime's own reading takes a new one of 256 KiB each time, since these
 * files do not tell their length. Give the text, "" where it is empty, null where it is not there any more or never was.
 *
 * Limit: what is longer than `fileBytesMax` is cut. Source: proc(5); a read at position 0 makes the kernel write it anew.
 */
import { closeSync, openSync, readSync } from "node:fs";

const fileBytesMax = 16_384;
/** Reads are short and never overlap. */
const buffer = Buffer.alloc(fileBytesMax);

export function readSmall(path: string): string | null {
  using file = new KeptFile(path);
  return file.read();
}

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
      return buffer.toString("utf8", 0, readSync(this.#descriptor, buffer, 0, fileBytesMax, 0));
    } catch {
      return null; // What it tells of is gone.
    }
  }

  [Symbol.dispose](): void {
    if (this.#descriptor !== null) closeSync(this.#descriptor);
    this.#descriptor = null;
  }
}
