// SPDX-License-Identifier: Apache-2.0
/**
 * A disk that keeps a record of all it was told, so that one run of a machine serves many power cuts: the image as it was
 * before, and the record up to a moment, give what a cut at that moment would have left.
 *
 * What a machine does before its power goes does not depend on the cut; so this is the same as cutting it then, without
 * running it again (as the kernel's dm-log-writes target does). Served by this process, one thing after the other: what is
 * heard of the machine after a flush was said after it. Files: `RECORD.told`, 24 bytes an item, and `RECORD.bytes`.
 */
import { closeSync, fstatSync, openSync, readFileSync, readSync, writeSync } from "node:fs";
import { type Random, systemClock } from "#clock.ts";
import { CutDisk, type CutReport } from "./cutDisk.ts";
import type { BlockDevice } from "./nbdServer.ts";

const itemBytes = 24;
const told = { write: 0, durable: 1, flush: 2 } as const;

/** One thing that the disk was told. */
export type Told = {
  readonly what: keyof typeof told;
  /** Since the record began. */
  readonly atNs: number;
  readonly at: number;
  readonly length: number;
};

export class RecordingDisk implements BlockDevice, Disposable {
  readonly bytes: number;
  readonly #image: number;
  readonly #items: number;
  readonly #content: number;
  readonly #beganNs = systemClock.monotonicNs();

  /** Serves the image file `path`, which is written at once. */
  constructor(path: string, record: string) {
    this.#image = openSync(path, "r+");
    this.bytes = fstatSync(this.#image).size;
    this.#items = openSync(`${record}.told`, "w");
    this.#content = openSync(`${record}.bytes`, "w");
  }

  /** Since the record began. */
  nowNs(): number {
    return systemClock.monotonicNs() - this.#beganNs;
  }

  read(at: number, length: number): Uint8Array | null {
    if (at < 0 || at + length > this.bytes) return null;
    const bytes = new Uint8Array(length);
    readWhole(this.#image, bytes, at);
    return bytes;
  }

  write(at: number, bytes: Uint8Array, durable: boolean): boolean {
    if (at < 0 || at + bytes.length > this.bytes) return false;
    writeWhole(this.#image, bytes, at);
    writeWhole(this.#content, bytes);
    this.#note(durable ? told.durable : told.write, at, bytes.length);
    return true;
  }

  flush(): boolean {
    this.#note(told.flush, 0, 0);
    return true;
  }

  [Symbol.dispose](): void {
    for (const file of [this.#image, this.#items, this.#content]) closeSync(file);
  }

  #note(kind: number, at: number, length: number): void {
    const item = Buffer.alloc(itemBytes);
    item.writeUInt32LE(kind, 0);
    item.writeUInt32LE(length, 4);
    item.writeDoubleLE(at, 8);
    item.writeDoubleLE(this.nowNs(), 16);
    writeWhole(this.#items, item);
  }
}

/** All that was told, in order. */
export function readTold(record: string): Told[] {
  const bytes = readFileSync(`${record}.told`);
  const kinds = Object.keys(told) as (keyof typeof told)[];
  return Array.from({ length: Math.floor(bytes.length / itemBytes) }, (_, index) => {
    const from = index * itemBytes;
    return {
      what: kinds[bytes.readUInt32LE(from)]!,
      length: bytes.readUInt32LE(from + 4),
      at: bytes.readDoubleLE(from + 8),
      atNs: bytes.readDoubleLE(from + 16),
    };
  });
}

/** Makes of an image as it was before the record what a cut after the first `count` items leaves. */
export function cutAfter(record: string, count: number, image: string, seed: number, ignoreFlushes = false): CutReport {
  using disk = new CutDisk(image, seed, ignoreFlushes);
  const content = openSync(`${record}.bytes`, "r");
  try {
    let from = 0;
    for (const { what, at, length } of readTold(record).slice(0, count)) {
      if (what === "flush") {
        disk.flush();
        continue;
      }
      const bytes = new Uint8Array(length);
      readWhole(content, bytes, from);
      from += length;
      disk.write(at, bytes, what === "durable");
    }
    return disk.cut();
  } finally {
    closeSync(content);
  }
}

export type Span = { readonly fromNs: number; readonly toNs: number };
export type Moment = {
  /** How many items the disk has been told by then. */
  readonly count: number;
  readonly atNs: number;
};

/** Any time of the span. */
export function anyTime(items: readonly Told[], { fromNs, toNs }: Span, random: Random): Moment {
  const atNs = fromNs + random() * (toNs - fromNs);
  return { atNs, count: items.filter((item) => item.atNs <= atNs).length };
}

/** Right after one of the writes of the span that fit, each as likely; any time where there are none. */
export function anyWrite(
  items: readonly Told[],
  span: Span,
  random: Random,
  fits: (item: Told) => boolean = () => true,
): Moment {
  const indexes = items.flatMap((item, index) =>
    item.what !== "flush" && item.atNs >= span.fromNs && item.atNs <= span.toNs && fits(item) ? [index] : [],
  );
  const index = indexes[Math.floor(random() * indexes.length)];
  return index === undefined ? anyTime(items, span, random) : { count: index + 1, atNs: items[index]!.atNs };
}

function readWhole(file: number, bytes: Uint8Array, at: number): void {
  for (let done = 0; done < bytes.length; ) {
    const read = readSync(file, bytes, done, bytes.length - done, at + done);
    if (read === 0) return; // The end of a file that was cut short reads as zeros.
    done += read;
  }
}

function writeWhole(file: number, bytes: Uint8Array, at?: number): void {
  for (let done = 0; done < bytes.length; ) {
    done += writeSync(file, bytes, done, bytes.length - done, at === undefined ? null : at + done);
  }
}
