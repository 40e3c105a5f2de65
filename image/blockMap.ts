// SPDX-License-Identifier: Apache-2.0
/**
 * Which blocks of an image must be written to a card, with a sum for each run of them: the block map that bmaptool reads,
 * and our own flashing.
 *
 * Not written: what lies between the parts, the empty end of the root partitions, and the data partition but for its
 * beginning, which makes the box form it anew. Source: the format's version 2.0 as bmap-tools describes and reads it.
 */
import { createHash } from "node:crypto";
import { open } from "node:fs/promises";
import { diskMiB, mib, type PartitionName, partitions } from "./layout.ts";

export type BlockRun = { readonly startMiB: number; readonly sizeMiB: number };

const blockBytes = 4_096;
const perMiB = mib / blockBytes;

/** `rootMiB`: how much of a root partition its file system fills. `hasFirmware`: something lies before the first part. */
export function runsOf(rootMiB: number, hasFirmware: boolean): BlockRun[] {
  const filled: Partial<Record<PartitionName, number>> = { root_A: rootMiB, root_B: rootMiB, data: 1 };
  const first = partitions[0]!.startMiB;
  const runs = [
    { startMiB: 0, sizeMiB: hasFirmware ? first : 1 },
    ...partitions.map(({ name, startMiB, sizeMiB }) => ({ startMiB, sizeMiB: filled[name] ?? sizeMiB })),
    { startMiB: diskMiB() - 1, sizeMiB: 1 },
  ];
  const joined: BlockRun[] = [];
  for (const run of runs) {
    const last = joined.at(-1);
    if (last === undefined || last.startMiB + last.sizeMiB < run.startMiB) joined.push(run);
    else joined[joined.length - 1] = { startMiB: last.startMiB, sizeMiB: last.sizeMiB + run.sizeMiB };
  }
  return joined;
}

/** The map of an image file, as XML. */
export async function blockMapOf(image: string, runs: readonly BlockRun[]): Promise<string> {
  await using file = await open(image, "r");
  const ranges: string[] = [];
  for (const { startMiB, sizeMiB } of runs) {
    const hash = createHash("sha256");
    const chunk = Buffer.alloc(mib);
    for (let at = startMiB; at < startMiB + sizeMiB; at += 1) {
      await file.read(chunk, 0, mib, at * mib);
      hash.update(chunk);
    }
    const [from, to] = [startMiB * perMiB, (startMiB + sizeMiB) * perMiB - 1];
    ranges.push(`        <Range chksum="${hash.digest("hex")}"> ${from}-${to} </Range>`);
  }
  const blocks = diskMiB() * perMiB;
  const mapped = runs.reduce((total, { sizeMiB }) => total + sizeMiB * perMiB, 0);
  const text = (sum: string): string =>
    [
      '<?xml version="1.0" ?>',
      '<bmap version="2.0">',
      `    <ImageSize> ${blocks * blockBytes} </ImageSize>`,
      `    <BlockSize> ${blockBytes} </BlockSize>`,
      `    <BlocksCount> ${blocks} </BlocksCount>`,
      `    <MappedBlocksCount> ${mapped} </MappedBlocksCount>`,
      "    <ChecksumType> sha256 </ChecksumType>",
      `    <BmapFileChecksum> ${sum} </BmapFileChecksum>`,
      "    <BlockMap>",
      ...ranges,
      "    </BlockMap>",
      "</bmap>",
      "",
    ].join("\n");
  // Its own sum is that of the text with zeros in its place.
  const own = createHash("sha256")
    .update(text("0".repeat(64)))
    .digest("hex");
  return text(own);
}

/** The runs and sums of a map that blockMapOf wrote; null for any other text. */
export function readBlockMap(text: string): readonly (BlockRun & { readonly sum: string })[] | null {
  const found = [...text.matchAll(/<Range chksum="([0-9a-f]{64})"> (\d+)-(\d+) <\/Range>/g)];
  const runs = found.map(([, sum, from, to]) => ({
    startMiB: Number(from) / perMiB,
    sizeMiB: (Number(to) + 1 - Number(from)) / perMiB,
    sum: sum!,
  }));
  return runs.length > 0 && runs.every((run) => Number.isInteger(run.startMiB + run.sizeMiB)) ? runs : null;
}
