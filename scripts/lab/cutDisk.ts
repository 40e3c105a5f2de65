// SPDX-License-Identifier: Apache-2.0
/**
 * A disk whose power can be cut. Gets writes; keeps them in memory and makes them durable, in an image file, only at a
 * flush or where a write asks for it (FUA). At the cut each write since then is lost or kept by the seed, one is torn at a
 * 512-byte border, and from then on everything fails.
 *
 * Killing a process or an emulator is not a power cut: the page cache keeps what was never flushed. With `ignoreFlushes`
 * the disk lies, which proves that a test on it can fail. Run as a program it serves an image to anything that speaks NBD:
 *
 *     bun scripts/lab/cutDisk.ts --socket PATH --image FILE [--seed N] [--ignore-flushes]     cut: send it SIGUSR1
 */
import { closeSync, fstatSync, openSync, readSync, writeSync } from "node:fs";
import { parseArgs } from "node:util";
import { type Random, seededRandom } from "#clock.ts";
import { serveNbd } from "./nbdServer.ts";

const sectorBytes = 512;
const blockBytes = 4096;

type Write = { readonly at: number; readonly bytes: Uint8Array };
export type CutReport = {
  /** Flushes that arrived before the cut: none would mean that the test proves nothing. */
  readonly flushes: number;
  /** Writes that were not durable at the cut, how many of them stay, and how much of the torn one. */
  readonly pending: number;
  readonly kept: number;
  readonly tornSectors: number | null;
};

export class CutDisk implements Disposable {
  readonly bytes: number;
  readonly #image: number;
  readonly #random: Random;
  readonly #ignoreFlushes: boolean;
  /** Writes that are not durable, in order, and the blocks as they are with them. */
  #pending: Write[] = [];
  readonly #blocks = new Map<number, Uint8Array>();
  #dead = false;
  #flushes = 0;

  /** Serves the image file `path`, which must exist and is the durable content from now on. */
  constructor(path: string, seed: number, ignoreFlushes = false) {
    this.#image = openSync(path, "r+");
    this.bytes = fstatSync(this.#image).size;
    this.#random = seededRandom(seed);
    this.#ignoreFlushes = ignoreFlushes;
  }

  /** null where it fails: out of bounds, or the power is off. */
  read(at: number, length: number): Uint8Array | null {
    if (!this.#inside(at, length)) return null;
    const result = new Uint8Array(length);
    for (let done = 0; done < length; ) {
      const block = Math.floor((at + done) / blockBytes);
      const from = at + done - block * blockBytes;
      const part = Math.min(length - done, blockBytes - from);
      result.set(this.#block(block).subarray(from, from + part), done);
      done += part;
    }
    return result;
  }

  write(at: number, bytes: Uint8Array, durable: boolean): boolean {
    if (!this.#inside(at, bytes.length)) return false;
    const kept = bytes.slice();
    for (let done = 0; done < kept.length; ) {
      const block = Math.floor((at + done) / blockBytes);
      const from = at + done - block * blockBytes;
      const part = kept.subarray(done, done + blockBytes - from);
      const content = this.#blocks.get(block) ?? this.#block(block).slice();
      content.set(part, from);
      this.#blocks.set(block, content);
      done += part.length;
    }
    if (durable && !this.#ignoreFlushes) this.#writeThrough(at, kept);
    else this.#pending.push({ at, bytes: kept });
    return true;
  }

  flush(): boolean {
    if (this.#dead) return false;
    this.#flushes += 1;
    if (this.#ignoreFlushes) return true;
    for (const { at, bytes } of this.#pending) this.#persist(at, bytes);
    this.#pending = [];
    this.#blocks.clear();
    return true;
  }

  /** The power goes. What the image holds afterwards is what a machine would find. */
  cut(): CutReport {
    this.#dead = true;
    const pending = this.#pending;
    // A disk that lies keeps nothing: its cache is lost as a whole.
    const keepRatio = this.#ignoreFlushes ? 0 : [0, 0.5, 0.9][Math.floor(this.#random() * 3)]!;
    const torn = this.#ignoreFlushes ? -1 : Math.floor(this.#random() * pending.length);
    let kept = 0;
    let tornSectors: number | null = null;
    pending.forEach(({ at, bytes }, index) => {
      if (index === torn) {
        tornSectors = Math.floor(this.#random() * (bytes.length / sectorBytes));
        this.#persist(at, bytes.subarray(0, tornSectors * sectorBytes));
      } else if (this.#random() < keepRatio) {
        this.#persist(at, bytes);
        kept += 1;
      }
    });
    this.#pending = [];
    this.#blocks.clear();
    return { flushes: this.#flushes, pending: pending.length, kept, tornSectors };
  }

  [Symbol.dispose](): void {
    this.#dead = true;
    closeSync(this.#image);
  }

  /** What was written to the same place before must not come out after it: all up to the last such write goes along. */
  #writeThrough(at: number, bytes: Uint8Array): void {
    const meets = (write: Write): boolean => write.at < at + bytes.length && at < write.at + write.bytes.length;
    const along = this.#pending.findLastIndex(meets) + 1;
    for (const write of this.#pending.slice(0, along)) this.#persist(write.at, write.bytes);
    this.#pending = this.#pending.slice(along);
    this.#persist(at, bytes);
  }

  #inside(at: number, length: number): boolean {
    return !this.#dead && at >= 0 && length >= 0 && at + length <= this.bytes;
  }

  #block(block: number): Uint8Array {
    const known = this.#blocks.get(block);
    if (known !== undefined) return known;
    const content = new Uint8Array(blockBytes);
    readSync(this.#image, content, 0, blockBytes, block * blockBytes);
    return content;
  }

  #persist(at: number, bytes: Uint8Array): void {
    for (let done = 0; done < bytes.length; ) {
      done += writeSync(this.#image, bytes, done, bytes.length - done, at + done);
    }
  }
}

if (import.meta.main) {
  const { values } = parseArgs({
    options: {
      socket: { type: "string" },
      image: { type: "string" },
      seed: { type: "string", default: "1" },
      "ignore-flushes": { type: "boolean", default: false },
    },
  });
  if (values.socket === undefined || values.image === undefined) {
    console.error("usage: bun scripts/lab/cutDisk.ts --socket PATH --image FILE [--seed N] [--ignore-flushes]");
    process.exit(2);
  }
  const disk = new CutDisk(values.image, Number(values.seed), values["ignore-flushes"]);
  serveNbd(values.socket, disk);
  process.on("SIGUSR1", () => {
    console.log(JSON.stringify(disk.cut()));
    process.exit(0);
  });
}
