// SPDX-License-Identifier: Apache-2.0
/**
 * Takes in checkpoints from a file that `holdfast checkpoint export` wrote. Every page is checked on its way, and hashed anew
 * with the secret of this store. Gets the page file and a path; gives the ids. All or nothing for each checkpoint.
 *
 * Disks do not travel: a checkpoint that has clones is refused, for its memory would not match any disk here. Blocks.
 */
import { StorageError } from "#errors.ts";
import type { PageFile } from "#storage/pageFile.ts";
import { PageReader } from "#storage/pageReader.ts";
import { checkMessages, decodeHead, encodeHead, layoutOf } from "./checkpointHead.ts";
import { checkedPage, extentOf, indexOf, unpack } from "./extentPages.ts";
import { PageHash } from "./pageHash.ts";
import { chunkPages, readChunk } from "./pageMap.ts";
import { PagePacker } from "./pagePacker.ts";
import { PageTable } from "./pageTable.ts";

export function importCheckpoint(file: PageFile, path: string): string[] {
  using source = PageReader.open(path);
  return source.checkpoints.map(({ id }) => {
    importOne(file, source, id);
    return id;
  });
}

function importOne(file: PageFile, source: PageReader, id: string): void {
  if (file.reader.checkpoint(id) !== null) {
    throw new StorageError("storage.owner", `checkpoint ${id} is here already`);
  }
  const row = source.checkpoint(id)!;
  const head = decodeHead(id, row.head);
  checkMessages(id, head, row.config, row.state);
  if (head.disks.length > 0) {
    const message = `checkpoint ${id} belongs to disks that are not in the file: it cannot be restored here`;
    throw new StorageError("storage.owner", message);
  }
  const { ram, chunks } = layoutOf(id, head);
  const [theirs, ours] = [new PageHash(source.seed), new PageHash(file.reader.seed)];
  const table = new PageTable(ram, ours);
  const packer = new PagePacker(file, table, ours);
  try {
    chunks.forEach((name, chunk) => {
      copyChunk(source, readChunk(name, source.chunk(name)), chunk * chunkPages, theirs, (page, bytes) => {
        packer.put(page, bytes, ours.of(bytes));
      });
    });
    const { changed, runs, names } = table.chunks();
    packer.flush(changed);
    const pages = { filled: table.filled, added: packer.added, addedBytes: packer.addedBytes };
    const { guest, atMs, config, state } = row;
    file.seal({ id, guest, atMs, head: encodeHead({ ...head, chunks: runs, pages }), config, state, chunks: names });
  } catch (error) {
    while (file.sweep());
    throw error;
  }
}

function copyChunk(
  source: PageReader,
  locations: Uint32Array,
  first: number,
  hash: PageHash,
  tell: (page: number, bytes: Uint8Array) => void,
): void {
  const open = new Map<number, { extent: { n: number; hashes: Uint8Array }; pages: Uint8Array }>();
  locations.forEach((location, index) => {
    if (location === 0) return;
    const n = extentOf(location);
    let found = open.get(n);
    if (found === undefined) {
      const extent = source.extent(n);
      if (extent === null) throw new StorageError("storage.extentMissing", `extent ${n} is missing`, { extent: n });
      found = { extent, pages: unpack(extent) };
      open.set(n, found);
    }
    tell(first + index, checkedPage(found.extent, found.pages, indexOf(location), hash));
  });
}
