// SPDX-License-Identifier: Apache-2.0
/**
 * Which mappings of our own may be given back, and that giving them back leaves this process as it was.
 */
import { expect, test } from "bun:test";
import { cleanMappings, giveBackOwnPages } from "#board/native/ownPages.ts";

const mapping = (head: string, anonymousKib: number): string =>
  `${head}\nSize: 64 kB\nRss: 64 kB\nAnonymous: ${anonymousKib} kB\nVmFlags: rd ex`;

test("files that are only read and run, and hold no page of ours", () => {
  const smaps = [
    mapping("00200000-00210000 r--p 00000000 fe:00 12 /usr/bin/bun", 0),
    mapping("00300000-00320000 r-xp 00100000 fe:00 12 /usr/bin/a name with spaces", 0),
    // Relocated, written to, no file, of the kernel.
    mapping("00400000-00410000 r--p 00200000 fe:00 12 /usr/bin/bun", 4),
    mapping("00500000-00510000 rw-p 00200000 fe:00 12 /usr/bin/bun", 0),
    mapping("00600000-00610000 rwxp 00000000 00:00 0 ", 0),
    mapping("00700000-00710000 r-xp 00000000 00:00 0 [vdso]", 0),
  ].join("\n");
  expect(cleanMappings(smaps)).toEqual([
    { start: 0x200000n, lengthBytes: 0x10000n },
    { start: 0x300000n, lengthBytes: 0x20000n },
  ]);
});

test("what was given back comes back when it is used", () => {
  expect(giveBackOwnPages()).toBeGreaterThan(2 ** 20);
  expect(JSON.parse(JSON.stringify({ list: [1, 2, 3].map((one) => one * 2) }))).toEqual({ list: [2, 4, 6] });
});
