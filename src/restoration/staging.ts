// SPDX-License-Identifier: Apache-2.0
/**
 * Pages held raw until there is time to store them: what changed in the last moments before a guest stood still. The newest
 * content of a page counts. Limit: `stagingBytesMax`, allocated in parts as needed.
 */
import { HypervisorError } from "#errors.ts";
import { pageBytes } from "#vm/offload/guestRam.ts";

export const stagingBytesMax = 256 << 20;
const partPages = 1_024;

export class Staging {
  readonly #parts: Uint8Array[] = [];
  readonly #slots = new Map<number, number>();

  has(page: number): boolean {
    return this.#slots.has(page);
  }

  get bytes(): number {
    return this.#slots.size * pageBytes;
  }

  /** Takes a copy. @throws HypervisorError hypervisor.noConvergence where the guest writes faster than it can be stored */
  put(page: number, bytes: Uint8Array): void {
    let slot = this.#slots.get(page);
    if (slot === undefined) {
      slot = this.#slots.size;
      if ((slot + 1) * pageBytes > stagingBytesMax) {
        const message = `the guest writes too fast: more than ${stagingBytesMax >> 20} MiB in the last moments`;
        throw new HypervisorError("hypervisor.noConvergence", message);
      }
      this.#slots.set(page, slot);
      if (slot % partPages === 0) this.#parts.push(new Uint8Array(new ArrayBuffer(partPages * pageBytes)));
    }
    this.#place(slot).set(bytes);
  }

  /** In the order of their addresses, so that neighbours are stored together. */
  *pages(): Generator<{ readonly page: number; readonly bytes: Uint8Array }> {
    for (const page of [...this.#slots.keys()].sort((a, b) => a - b)) {
      yield { page, bytes: this.#place(this.#slots.get(page)!) };
    }
  }

  #place(slot: number): Uint8Array {
    const at = (slot % partPages) * pageBytes;
    return this.#parts[Math.floor(slot / partPages)]!.subarray(at, at + pageBytes);
  }
}
