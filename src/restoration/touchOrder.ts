// SPDX-License-Identifier: Apache-2.0
/**
 * The working set of a guest: its pages in the order in which it first touched them after a restore. Gets page numbers; gives
 * packed bytes, and back. What is damaged is an empty order: it costs time, never a byte. Limit: `touchesMax`.
 */

/** 64 MiB of pages. */
export const touchesMax = 16_384;

export function packTouches(pages: readonly number[]): Uint8Array {
  return Bun.zstdCompressSync(new Uint8Array(Uint32Array.from(pages.slice(0, touchesMax)).buffer), { level: 1 });
}

export function unpackTouches(bytes: Uint8Array | null, pageCount: number): number[] {
  if (bytes === null) return [];
  try {
    const raw = Bun.zstdDecompressSync(bytes);
    const pages = [...new Uint32Array(raw.slice().buffer)].slice(0, touchesMax);
    return pages.filter((page) => page < pageCount);
  } catch {
    return [];
  }
}
