// SPDX-License-Identifier: Apache-2.0
/**
 * Which pages of a memory file a process has touched: this process maps one, and reads two of its pages.
 */
import { expect, test } from "bun:test";
import { MappedPages } from "#board/native/mappedPages.ts";
import { MemoryFile } from "#board/native/memoryFile.ts";

const pageBytes = 4096;
const pages = 256;
/** The kernel maps those around a touched one as well, so many at once at most. */
const aroundMax = 16;

test("pages that were touched are mapped, pages that were only written to are not", () => {
  using file = MemoryFile.create("mapped", pages * pageBytes);
  for (let page = 0; page < pages; page += 1) file.write(page * pageBytes, Buffer.alloc(pageBytes, page));
  expect(MappedPages.open(process.pid, file)).toBeNull();
  const memory = Bun.mmap(`/proc/self/fd/${file.descriptor}`, { shared: true });
  using tables = MappedPages.open(process.pid, file)!;
  expect(tables.look(0, pages)).not.toContain(true);
  expect([memory[3 * pageBytes], memory[100 * pageBytes]]).toEqual([3, 100]);
  const mapped = tables.look(0, pages).flatMap((isMapped, page) => (isMapped ? [page] : []));
  expect(mapped).toContain(3);
  expect(mapped).toContain(100);
  for (const page of mapped) expect(Math.min(Math.abs(page - 3), Math.abs(page - 100))).toBeLessThan(aroundMax);
  // A piece of it, counted from its own start.
  expect(tables.look(100 * pageBytes, 1)).toEqual([true]);
  expect(tables.look(200 * pageBytes, 56)).not.toContain(true);
});

test("a process that is gone cannot be looked at", async () => {
  using file = MemoryFile.create("mapped", pageBytes);
  const gone = Bun.spawn(["true"]);
  await gone.exited;
  expect(() => MappedPages.open(gone.pid, file)).toThrow(`the page tables of process ${gone.pid} cannot be read`);
});
