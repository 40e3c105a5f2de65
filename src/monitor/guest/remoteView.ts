// SPDX-License-Identifier: Apache-2.0
/**
 * The memory of a program that is reached through a stub only: pages fetched before they are asked for, or after.
 *
 * Whoever computes with memory does it without waiting; what was missing is fetched and the computation is done again, until
 * nothing is missing. Each round fetches twice as far beyond a missing page as the one before, so a deep stack takes few; where
 * objects are looked for, each page alone.
 * Limits: `roundsMax`, `pagesMax`. Pages are true while the thread is stopped, and forgotten after.
 */
import type { Architecture, ProgramView, VirtualAddress } from "#fault.ts";

export const roundsMax = 16;
/** 32 MiB: more than any stack that still unwinds to an end. */
export const pagesMax = 8_192;
const pageBytes = 4_096;
/** How many pages are fetched for a missing one, at first and at most. */
export type FetchReach = { readonly first: number; readonly max: number };
const stackReach: FetchReach = { first: 4, max: 512 };
/** For objects, which lie anywhere. */
export const objectReach: FetchReach = { first: 1, max: 1 };

export type ReadPages = (from: VirtualAddress, lengthBytes: number) => Promise<Uint8Array>;

export class RemoteView implements ProgramView {
  readonly #pages = new Map<bigint, Uint8Array>();
  readonly #missing = new Set<bigint>();

  constructor(
    readonly pid: number,
    readonly architecture: Architecture,
    private readonly read: ReadPages,
    private readonly reach: FetchReach = stackReach,
  ) {}

  /** Up to the first byte that is not mapped, or not here yet. */
  readMemory(from: VirtualAddress, lengthBytes: number): Uint8Array {
    const bytes = new Uint8Array(lengthBytes);
    let done = 0;
    while (done < lengthBytes) {
      const at = from + BigInt(done);
      const page = at & ~BigInt(pageBytes - 1);
      const known = this.#pages.get(page);
      if (known === undefined) {
        this.#missing.add(page);
        break;
      }
      const piece = known.subarray(Number(at - page), Number(at - page) + lengthBytes - done);
      bytes.set(piece, done);
      done += piece.length;
      // The mapping ends in this page.
      if (piece.length === 0 || known.length < pageBytes) break;
    }
    return bytes.subarray(0, done);
  }

  /** The result of a computation over memory that had all it asked for. @throws GdbError */
  async settle<Result>(compute: () => Result): Promise<Result> {
    let reach = this.reach.first;
    for (let round = 0; round < roundsMax && this.#pages.size < pagesMax; round += 1) {
      this.#missing.clear();
      const result = compute();
      if (this.#missing.size === 0) return result;
      await this.#fetchMissing(reach);
      reach = Math.min(reach * 2, this.reach.max);
    }
    return compute();
  }

  /** Fetches what will be needed for sure. @throws GdbError */
  async fetch(from: VirtualAddress, lengthBytes: number): Promise<void> {
    const first = from & ~BigInt(pageBytes - 1);
    const count = Number((from + BigInt(lengthBytes) - first + BigInt(pageBytes - 1)) / BigInt(pageBytes));
    await this.#fetchPages(first, count);
  }

  forget(): void {
    this.#pages.clear();
    this.#missing.clear();
  }

  async #fetchMissing(reach: number): Promise<void> {
    const missing = [...this.#missing];
    if (reach === 1) await Promise.all(missing.map((page) => this.#fetchPages(page, 1)));
    else for (const page of missing) if (!this.#pages.has(page)) await this.#fetchPages(page, reach);
  }

  async #fetchPages(first: bigint, count: number): Promise<void> {
    const bytes = await this.read(first as VirtualAddress, count * pageBytes);
    for (let index = 0; index < count; index += 1) {
      const piece = bytes.slice(index * pageBytes, (index + 1) * pageBytes);
      const page = first + BigInt(index * pageBytes);
      // Beyond the end of a mapping nothing is known but that the first page of it is not there.
      if (piece.length > 0 || index === 0) this.#pages.set(page, piece);
      if (piece.length < pageBytes) break;
    }
  }
}
