// SPDX-License-Identifier: Apache-2.0
/**
 * Words of the program's memory through a block that is read once. Gets a reader, gives 64-bit words or null.
 *
 * Blocks begin at a page so that a stack pointer inside a guard page does not hide the pages behind it. Two blocks are
 * kept: one for the stack, one for what an expression reads elsewhere. Limit: block size.
 */
import { address, type VirtualAddress } from "#fault.ts";

/** Reads up to `lengthBytes` from `from`; shorter where the mapping ends, empty where nothing is mapped. */
export type ReadMemory = (from: VirtualAddress, lengthBytes: number) => Uint8Array;

const pageBytes = 4_096;
/** Blocks grow with the depth of the stack: most stacks need one small read, a deep recursion few large ones. */
const blockBytesMin = 4 * pageBytes;
const blockBytesMax = 256 * pageBytes;

type Block = { readonly start: number; readonly end: number; readonly view: DataView };

export class StackWindow {
  #block: Block = empty;
  #other: Block = empty;
  #blockBytes = blockBytesMin;

  constructor(private readonly read: ReadMemory) {}

  /** The word at `at`, an address below 2^53; null where nothing is mapped. */
  word(at: number): bigint | null {
    const block = at >= this.#block.start && at + 8 <= this.#block.end ? this.#block : this.#load(at, 8);
    return block === null ? null : block.view.getBigUint64(at - block.start, true);
  }

  /** The word at `at` as a double: exact for user addresses, and cheap. NaN where nothing is mapped. */
  wordAsNumber(at: number): number {
    const block = at >= this.#block.start && at + 8 <= this.#block.end ? this.#block : this.#load(at, 8);
    if (block === null) return Number.NaN;
    const place = at - block.start;
    return block.view.getUint32(place, true) + block.view.getUint32(place + 4, true) * 2 ** 32;
  }

  /** `lengthBytes` from `at`; empty where not all of them are mapped. */
  bytes(at: number, lengthBytes: number): Uint8Array {
    const block = this.#load(at, lengthBytes);
    if (block === null) return new Uint8Array();
    return new Uint8Array(block.view.buffer, block.view.byteOffset + at - block.start, lengthBytes);
  }

  value(at: number, lengthBytes: number): bigint | null {
    const block = this.#load(at, lengthBytes);
    if (block === null) return null;
    let value = 0n;
    for (let index = lengthBytes - 1; index >= 0; index -= 1) {
      value = (value << 8n) | BigInt(block.view.getUint8(at - block.start + index));
    }
    return value;
  }

  #load(at: number, lengthBytes: number): Block | null {
    if (!(at >= 0 && at < 2 ** 53)) return null;
    if (covers(this.#block, at, lengthBytes)) return this.#block;
    [this.#block, this.#other] = [this.#other, this.#block];
    if (covers(this.#block, at, lengthBytes)) return this.#block;
    const start = at - (at % pageBytes);
    const bytes = this.read(address(BigInt(start)), this.#blockBytes);
    this.#blockBytes = Math.min(this.#blockBytes * 2, blockBytesMax);
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.#block = { start, end: start + bytes.length, view };
    return covers(this.#block, at, lengthBytes) ? this.#block : null;
  }
}

const empty: Block = { start: 0, end: 0, view: new DataView(new ArrayBuffer(0)) };
const covers = (block: Block, at: number, lengthBytes: number): boolean =>
  at >= block.start && at + lengthBytes <= block.end;
