// SPDX-License-Identifier: Apache-2.0
/**
 * Reads one Memory message: a table of ranges, then their bytes in the same order. Tells each page as it comes.
 *
 * A table names at most every page once, or the peer is broken. The bytes are valid during the call. Blocks.
 */
import { HypervisorError } from "#errors.ts";
import { type GuestRam, pageBytes } from "#vm/offload/guestRam.ts";
import type { MigrationReceiver } from "#vm/offload/receiver.ts";
import { decodeRanges, messageBytes } from "#vm/offload/wire.ts";

const readBytes = 1 << 20;

export function readStream(
  receiver: MigrationReceiver,
  tableBytes: number,
  ram: GuestRam,
  tell: (page: number, bytes: Uint8Array) => void,
): void {
  if (tableBytes > ram.pages * messageBytes) {
    throw new HypervisorError(
      "hypervisor.protocol",
      `a memory table of ${tableBytes} bytes names pages more than once`,
    );
  }
  const table = new Uint8Array(new ArrayBuffer(tableBytes));
  receiver.payload(table);
  const buffer = new Uint8Array(new ArrayBuffer(readBytes));
  for (const { gpa, bytes } of decodeRanges(table)) {
    ram.regionOf(gpa, bytes);
    let page = ram.pageAt(gpa);
    for (let left = bytes; left > 0; left -= readBytes) {
      const part = buffer.subarray(0, Math.min(left, readBytes));
      receiver.payload(part);
      for (let at = 0; at < part.length; at += pageBytes, page += 1) tell(page, part.subarray(at, at + pageBytes));
    }
  }
}
