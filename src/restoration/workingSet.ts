// SPDX-License-Identifier: Apache-2.0
/**
 * What a guest wanted after a restore, to be brought before it runs the next time.
 *
 * A page that is brought behind the guest's back, or was there before it ran, shows no touch on the fault connection: so
 * once the guest has had its first moment, the page tables of Cloud Hypervisor are read, a chunk at a time between two
 * requests. Gets those and the touches in their order; gives pages in the order to bring them in. Where the kernel maps the
 * pages around a touched one as well (16, of those that are there) they count as wanted: they share its extent. Source: design after REAP (ASPLOS 2021); the page tables measured on v53.0, 2026-11.
 */
import { MappedPages } from "#board/native/mappedPages.ts";
import type { MemoryFile } from "#board/native/memoryFile.ts";
import { pageBytes } from "#vm/offload/guestRam.ts";
import type { LazyMap } from "./lazyMap.ts";
import { chunkPages } from "./pageMap.ts";

/** One chunk a step; gives, at the end, the pages with content that are mapped. Zero pages cannot be brought. */
export function* lookAtTables(
  map: LazyMap,
  files: ReadonlyMap<number, MemoryFile>,
  pid: number,
): Generator<undefined, number[]> {
  const found: number[] = [];
  for (const { slot, firstPage, bytes, fileOffset } of map.ram.regions) {
    using tables = MappedPages.open(pid, files.get(slot)!);
    if (tables === null) continue;
    const end = firstPage + bytes / pageBytes;
    for (let page = firstPage; page < end; ) {
      const chunk = Math.floor(page / chunkPages);
      const until = Math.min(end, (chunk + 1) * chunkPages);
      if (!map.isZeroChunk(chunk)) {
        const locations = map.locations(chunk);
        tables.look(fileOffset + (page - firstPage) * pageBytes, until - page).forEach((isMapped, index) => {
          if (isMapped && locations[(page + index) % chunkPages] !== 0) found.push(page + index);
        });
        yield;
      }
      page = until;
    }
  }
  return found;
}

/**
 * `recorded`: what was wanted the last time. It stays as far as it is wanted still; where `mapped` is null (the tables could
 * not be read) that is not known, and it stays until the record is full.
 */
export function workingSet(
  recorded: readonly number[],
  touched: readonly number[],
  mapped: readonly number[] | null,
  limit: number,
): number[] {
  const wanted = mapped === null ? null : new Set(mapped);
  const kept = recorded.filter((page) => wanted?.has(page) ?? true);
  const all = new Set([...kept, ...touched, ...(mapped ?? [])]);
  return wanted === null && all.size > limit ? touched.slice(0, limit) : [...all].slice(0, limit);
}
