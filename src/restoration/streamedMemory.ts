// SPDX-License-Identifier: Apache-2.0
/**
 * Reads one Memory message: a table of ranges, then their bytes in the same order. Tells each page as it comes, or once all
 * of a short message is there and answered: for what is sent while the guest stands still, every moment counts.
 *
 * A table names at most every page once, or the peer is broken. The bytes are valid during the call. Blocks.
 */
import { HypervisorError } from "#errors.ts";
import { type GuestRam, pageBytes } from "#vm/offload/guestRam.ts";
import type { MigrationReceiver } from "#vm/offload/receiver.ts";
import { decodeRanges, messageBytes } from "#vm/offload/wire.ts";

const readBytes = 1 << 20;
/** The most that is worth sending while a guest stands still. */
const shortBytes = 8 << 20;

type Tell = (page: number, bytes: Uint8Array) => void;
type Ranges = readonly { readonly gpa: number; readonly bytes: number }[];

/** Reads it as it comes, and answers it. */
export function readStream(receiver: MigrationReceiver, tableBytes: number, ram: GuestRam, tell: Tell): void {
  readRanges(receiver, readTable(receiver, tableBytes, ram), ram, tell);
}

function readRanges(receiver: MigrationReceiver, ranges: Ranges, ram: GuestRam, tell: Tell): void {
  const buffer = new Uint8Array(new ArrayBuffer(readBytes));
  for (const { gpa, bytes } of ranges) {
    let page = ram.pageAt(gpa);
    for (let left = bytes; left > 0; left -= readBytes) {
      const part = buffer.subarray(0, Math.min(left, readBytes));
      receiver.payload(part);
      page = tellPages(page, part, tell);
    }
  }
  receiver.accept();
}

/** Messages of up to `shortBytes`, the rest as `readStream`. */
export class ShortMessages {
  /** Filled once, so that it is there when it counts. */
  readonly #buffer = new Uint8Array(new ArrayBuffer(shortBytes)).fill(1);

  read(receiver: MigrationReceiver, tableBytes: number, ram: GuestRam, tell: Tell): void {
    const ranges = readTable(receiver, tableBytes, ram);
    const total = ranges.reduce((sum, { bytes }) => sum + bytes, 0);
    if (total > shortBytes) {
      readRanges(receiver, ranges, ram, tell);
      return;
    }
    const all = this.#buffer.subarray(0, total);
    receiver.payload(all);
    receiver.accept();
    let at = 0;
    for (const { gpa, bytes } of ranges) {
      tellPages(ram.pageAt(gpa), all.subarray(at, at + bytes), tell);
      at += bytes;
    }
  }
}

function readTable(receiver: MigrationReceiver, tableBytes: number, ram: GuestRam): Ranges {
  if (tableBytes > ram.pages * messageBytes) {
    throw new HypervisorError(
      "hypervisor.protocol",
      `a memory table of ${tableBytes} bytes names pages more than once`,
    );
  }
  const table = new Uint8Array(new ArrayBuffer(tableBytes));
  receiver.payload(table);
  const ranges = [...decodeRanges(table)];
  for (const { gpa, bytes } of ranges) ram.regionOf(gpa, bytes);
  return ranges;
}

/** Gives the page after the last. */
function tellPages(first: number, part: Uint8Array, tell: Tell): number {
  let page = first;
  for (let at = 0; at < part.length; at += pageBytes, page += 1) tell(page, part.subarray(at, at + pageBytes));
  return page;
}
