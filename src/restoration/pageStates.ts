// SPDX-License-Identifier: Apache-2.0
/**
 * A small number for every page of a guest, 0 at first. Gets and gives numbers up to 255 by page.
 *
 * Memory is taken a chunk at a time, at its first page that is not 0: an array for all pages of 8 GiB would cost more than a
 * millisecond before anything is restored (measured), and most of them are never anything else.
 */
import { chunkPages } from "./pageMap.ts";

export class PageStates {
  readonly #chunks = new Map<number, Uint8Array>();

  at(page: number): number {
    return this.#chunks.get(Math.floor(page / chunkPages))?.[page % chunkPages] ?? 0;
  }

  put(page: number, state: number): void {
    const n = Math.floor(page / chunkPages);
    let chunk = this.#chunks.get(n);
    if (chunk === undefined) {
      chunk = new Uint8Array(chunkPages);
      this.#chunks.set(n, chunk);
    }
    chunk[page % chunkPages] = state;
  }
}
