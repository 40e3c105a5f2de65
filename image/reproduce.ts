// SPDX-License-Identifier: Apache-2.0
/**
 * `bun image/reproduce.ts [OPTIONS of image/build]`: builds the image twice from the same commit and the same unpacked
 * packages, and compares the two part by part. Exit code 0 where every bit is the same; else the parts that differ are named.
 *
 * Not compared: the update bundle, whose salt and signature are new each time.
 */
import { mkdirSync, mkdtempSync, readdirSync, rmSync } from "node:fs";
import { open } from "node:fs/promises";
import { join } from "node:path";
import { ImageError } from "./commands.ts";
import { diskMiB, mib, partitions } from "./layout.ts";

type Part = { readonly name: string; readonly startMiB: number; readonly endMiB: number };

const chunkMiB = 8;

function partsOfDisk(): Part[] {
  const first = partitions[0]!.startMiB;
  const end = diskMiB();
  return [
    { name: "partition table and boot firmware", startMiB: 0, endMiB: first },
    ...partitions.map(({ name, startMiB, sizeMiB }) => ({ name, startMiB, endMiB: startMiB + sizeMiB })),
    { name: "second partition table", startMiB: end - 1, endMiB: end },
  ];
}

async function build(words: readonly string[], out: string): Promise<string> {
  const options = ["--out", out, "--no-pack", "--no-bundle", "--version", "reproduced"];
  const child = Bun.spawn([process.execPath, join(import.meta.dir, "build.ts"), ...words, ...options], {
    stdio: ["ignore", "inherit", "inherit"],
  });
  if ((await child.exited) !== 0) throw new ImageError("image.tool", "the build failed");
  return out;
}

const imageIn = (folder: string): string => join(folder, readdirSync(folder).find((name) => name.endsWith(".img"))!);

/** Where the first byte of a part differs, or null. */
async function firstDifference(one: string, other: string, { startMiB, endMiB }: Part): Promise<number | null> {
  await using left = await open(one, "r");
  await using right = await open(other, "r");
  const [a, b] = [Buffer.alloc(chunkMiB * mib), Buffer.alloc(chunkMiB * mib)];
  for (let at = startMiB; at < endMiB; at += chunkMiB) {
    const bytes = Math.min(chunkMiB, endMiB - at) * mib;
    await left.read(a, 0, bytes, at * mib);
    await right.read(b, 0, bytes, at * mib);
    if (a.compare(b, 0, bytes, 0, bytes) === 0) continue;
    for (let index = 0; index < bytes; index += 1) if (a[index] !== b[index]) return at * mib + index;
  }
  return null;
}

async function main(words: readonly string[]): Promise<number> {
  const home = join(import.meta.dir, "../.cache");
  mkdirSync(home, { recursive: true });
  const [first, second] = [mkdtempSync(join(home, "one-")), mkdtempSync(join(home, "two-"))];
  try {
    const images = [imageIn(await build(words, first)), imageIn(await build(words, second))] as const;
    let differing = 0;
    for (const part of partsOfDisk()) {
      const at = await firstDifference(...images, part);
      if (at !== null) differing += 1;
      console.log(
        `${at === null ? "same   " : "DIFFERS"} ${part.name}${at === null ? "" : ` from byte ${at} of the disk`}`,
      );
    }
    const lists = await Promise.all(images.map((image) => Bun.file(`${image}.spdx.json`).text()));
    console.log(`${lists[0] === lists[1] ? "same   " : "DIFFERS"} list of components`);
    return differing === 0 && lists[0] === lists[1] ? 0 : 1;
  } finally {
    for (const folder of [first, second]) rmSync(folder, { recursive: true });
  }
}

process.exit(await main(process.argv.slice(2)));
