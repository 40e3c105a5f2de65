// SPDX-License-Identifier: Apache-2.0
/**
 * Rows of /proc/PID/maps, as Linux 6.1 prints them.
 */
import { expect, test } from "bun:test";
import { parseMaps } from "#binary/maps.ts";

const text = `563dc3200000-563dc324a000 r--p 00000000 fe:01 1314 /usr/bin/redis-check-rdb
563dc324a000-563dc3390000 r-xp 0004a000 fe:01 1314                       /usr/bin/redis check
7f0000000000-7f0000021000 rw-p 00000000 00:00 0
7f8154c1d000-7f8154d72000 r-xp 00026000 fe:01 1322                       /lib/old.so (deleted)
7fffaccc8000-7fffaccca000 r-xp 00000000 00:00 0                          [vdso]
ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0                  [vsyscall]
nonsense
`;

test("every row with its file, rights and inode", () => {
  const rows = parseMaps(text);
  expect(rows.map((row) => row.path)).toEqual([
    "/usr/bin/redis-check-rdb",
    "/usr/bin/redis check",
    "",
    "/lib/old.so",
    "[vdso]",
    "[vsyscall]",
  ]);
  expect(rows[1]).toMatchObject({ fileOffset: 0x4a000, permissions: "r-xp", inode: 1314, deleted: false });
  expect(rows[1]?.start).toBe(0x563dc324a000n as never);
  expect(rows[3]?.deleted).toBe(true);
});
