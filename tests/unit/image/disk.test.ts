// SPDX-License-Identifier: Apache-2.0
/**
 * The layout of the appliance's disk, what of it is written to a card, and the map that says so.
 */
import { expect, test } from "bun:test";
import { mkdtempSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { blockMapOf, readBlockMap, runsOf } from "#image/blockMap.ts";
import { diskMiB, mib, partitionOf, partitions, sfdiskScript } from "#image/layout.ts";

test("partitions follow one another, after room for a board's own loader", () => {
  expect(partitions[0]!.startMiB).toBe(16);
  for (const [index, partition] of partitions.entries()) {
    const next = partitions[index + 1];
    expect(partition.startMiB + partition.sizeMiB).toBe(next?.startMiB ?? diskMiB() - 1);
  }
  expect(partitions.at(-1)!.name).toBe("data");
  expect(new Set(partitions.map(({ id }) => id)).size).toBe(partitions.length);
});

test("the data partition has the type by which it is found and grown on the box", async () => {
  const definition = await Bun.file(join(import.meta.dir, "../../../image/system/repart-data.conf")).text();
  const type = /^Type=(\S+)$/m.exec(definition)![1]!;
  expect(partitionOf("data").type.toLowerCase()).toBe(type);
  expect(partitions.filter((item) => item.type.toLowerCase() === type).map(({ name }) => name)).toEqual(["data"]);
  expect(sfdiskScript()).toContain("name=root_B");
});

test("a card gets all file systems and the beginning of data, so that old data does not come back", () => {
  const runs = runsOf(300, false);
  const covered = (at: number): boolean =>
    runs.some(({ startMiB, sizeMiB }) => at >= startMiB && at < startMiB + sizeMiB);
  for (const { name, startMiB, sizeMiB } of partitions) {
    expect([name, covered(startMiB)]).toEqual([name, true]);
    const isWhole = name !== "data" && !name.startsWith("root");
    expect([name, covered(startMiB + sizeMiB - 1)]).toEqual([name, isWhole]);
  }
  expect(covered(0)).toBe(true);
  expect(covered(8)).toBe(false);
  expect(covered(diskMiB() - 1)).toBe(true);
  expect(runsOf(300, true)[0]!.sizeMiB).toBeGreaterThan(16);
});

test("a block map is read back as it was written, and its sums are those of the image", async () => {
  const directory = mkdtempSync(join(tmpdir(), "holdfast-map-"));
  try {
    const image = join(directory, "disk.img");
    writeFileSync(image, Buffer.alloc(2 * mib, 7));
    truncateSync(image, diskMiB() * mib);
    const runs = [
      { startMiB: 0, sizeMiB: 1 },
      { startMiB: 3, sizeMiB: 2 },
    ];
    const text = await blockMapOf(image, runs);
    const read = readBlockMap(text)!;
    expect(read.map(({ startMiB, sizeMiB }) => ({ startMiB, sizeMiB }))).toEqual(runs);
    const sum = (byte: number, size: number): string =>
      new Bun.CryptoHasher("sha256").update(Buffer.alloc(size, byte)).digest("hex");
    expect(read.map((run) => run.sum)).toEqual([sum(7, mib), sum(0, 2 * mib)]);
    const own = /<BmapFileChecksum> (\w+) </.exec(text)![1]!;
    expect(new Bun.CryptoHasher("sha256").update(text.replace(own, "0".repeat(64))).digest("hex")).toBe(own);
    expect(readBlockMap("<bmap></bmap>")).toBeNull();
  } finally {
    rmSync(directory, { recursive: true });
  }
});
