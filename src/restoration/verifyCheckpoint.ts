// SPDX-License-Identifier: Apache-2.0
/**
 * Reads all of a checkpoint and compares every page with its hash and its identity. Gets a reader and an id; gives what is
 * damaged. Blocks: about a second for each GiB stored. Limit: `problemsMax` told.
 */
import { explain, StorageError } from "#errors.ts";
import type { PageReader } from "#storage/pageReader.ts";
import { checkMessages, decodeHead, layoutOf } from "./checkpointHead.ts";
import { checkedPage, extentOf, indexOf, unpack } from "./extentPages.ts";
import { identify, identityBytes, PageHash } from "./pageHash.ts";
import { readChunk } from "./pageMap.ts";

export type Damage = { readonly pages: number; readonly problems: readonly string[] };
const problemsMax = 20;

export function verifyCheckpoint(reader: PageReader, id: string): Damage {
  const row = reader.checkpoint(id);
  if (row === null) throw new StorageError("storage.notFound", `there is no checkpoint ${JSON.stringify(id)}`);
  const problems: string[] = [];
  let pages = 0;
  try {
    const head = decodeHead(id, row.head);
    checkMessages(id, head, row.config, row.state);
    const used = usedPages(reader, [...new Set(layoutOf(id, head).chunks)]);
    const hash = new PageHash(reader.seed);
    for (const [n, indices] of used) {
      pages += indices.size;
      problems.push(...verifyExtent(reader, n, indices, hash));
      if (problems.length >= problemsMax) break;
    }
  } catch (error) {
    if (!(error instanceof StorageError)) throw error;
    problems.push(explain(error));
  }
  return { pages, problems: problems.slice(0, problemsMax) };
}

/** Index numbers of the pages that these chunks use, by extent. @throws StorageError storage.checkpointCorrupt */
export function usedPages(reader: PageReader, chunks: readonly string[]): Map<number, Set<number>> {
  const used = new Map<number, Set<number>>();
  for (const name of chunks) {
    for (const location of readChunk(name, reader.chunk(name))) {
      if (location === 0) continue;
      const indices = used.get(extentOf(location)) ?? new Set();
      used.set(extentOf(location), indices.add(indexOf(location)));
    }
  }
  return used;
}

function verifyExtent(reader: PageReader, n: number, indices: ReadonlySet<number>, hash: PageHash): string[] {
  try {
    const extent = reader.extent(n);
    if (extent === null) throw new StorageError("storage.extentMissing", `extent ${n} is missing`, { extent: n });
    const pages = unpack(extent);
    const identity = new Uint8Array(identityBytes);
    for (const index of indices) {
      identify(checkedPage(extent, pages, index, hash), identity);
      const stored = extent.identities.subarray(index * identityBytes, (index + 1) * identityBytes);
      if (Buffer.compare(identity, stored) === 0) continue;
      throw new StorageError("storage.pageCorrupt", `page ${index} of extent ${n} does not have its identity`);
    }
    return [];
  } catch (error) {
    if (!(error instanceof StorageError)) throw error;
    return [explain(error)];
  }
}
