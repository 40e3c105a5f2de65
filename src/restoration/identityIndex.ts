// SPDX-License-Identifier: Apache-2.0
/**
 * Where pages of known content are stored: identity in, location out. Gets identities as they are stored; gives a location
 * or 0. Bounded: once `full` new ones are not taken, so equal pages may be stored twice, never wrong ones once.
 *
 * Open addressing over typed arrays, 20 bytes an entry. 128 of the 256 bits of SHA-256 are kept: enough that two pages that
 * share them cannot be made.
 */

export class IdentityIndex {
  readonly #first: BigUint64Array;
  readonly #second: BigUint64Array;
  readonly #locations: Uint32Array;
  readonly #mask: number;
  #count = 0;

  /** Room for `entries`, rounded up to a power of two with a third to spare. */
  constructor(entries: number) {
    const slots = 2 ** Math.ceil(Math.log2(Math.max(16, entries * 1.5)));
    this.#first = new BigUint64Array(slots);
    this.#second = new BigUint64Array(slots);
    this.#locations = new Uint32Array(slots);
    this.#mask = slots - 1;
  }

  get full(): boolean {
    return this.#count * 3 >= this.#locations.length * 2;
  }

  /** 0 where it is not known. */
  find(identity: Uint8Array, offset = 0): number {
    return this.#locations[this.#slotOf(identity, offset)]!;
  }

  add(identity: Uint8Array, location: number, offset = 0): void {
    if (this.full) return;
    const slot = this.#slotOf(identity, offset);
    if (this.#locations[slot] !== 0) return;
    const view = new DataView(identity.buffer, identity.byteOffset + offset);
    this.#first[slot] = view.getBigUint64(0, true);
    this.#second[slot] = view.getBigUint64(8, true);
    this.#locations[slot] = location;
    this.#count += 1;
  }

  /** Its own slot, or the empty one where it belongs. */
  #slotOf(identity: Uint8Array, offset: number): number {
    const view = new DataView(identity.buffer, identity.byteOffset + offset);
    const [first, second] = [view.getBigUint64(0, true), view.getBigUint64(8, true)];
    let slot = view.getUint32(16, true) & this.#mask;
    while (this.#locations[slot] !== 0 && (this.#first[slot] !== first || this.#second[slot] !== second)) {
      slot = (slot + 1) & this.#mask;
    }
    return slot;
  }
}
