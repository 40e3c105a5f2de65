// SPDX-License-Identifier: Apache-2.0
/**
 * What is handed out beside an image: packed, its block map, its list of components, the sums of all of them.
 */
import { stat, writeFile } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { blockMapOf, runsOf } from "./blockMap.ts";
import { run } from "./commands.ts";
import { mib } from "./layout.ts";
import { sha256Of } from "./sbom.ts";

export type Handout = {
  readonly image: string;
  readonly rootBytes: number;
  readonly hasFirmware: boolean;
  readonly sbom: string;
  /** Packs the image as well; costs half a minute. */
  readonly packs: boolean;
  /** Further files beside it, such as the update bundle. */
  readonly more: readonly string[];
};

/** The files written, the image first. */
export async function writeOutput({ image, rootBytes, hasFirmware, sbom, packs, more }: Handout): Promise<string[]> {
  const files = [image, `${image}.bmap`, `${image}.spdx.json`, ...more];
  await writeFile(`${image}.bmap`, await blockMapOf(image, runsOf(Math.ceil(rootBytes / mib), hasFirmware)));
  await writeFile(`${image}.spdx.json`, sbom);
  if (packs) {
    // One thread: with several, the bytes depend on how many there are.
    await run(["zstd", "-q", "-f", "-6", "--single-thread", "--sparse", image, "-o", `${image}.zst`]);
    files.push(`${image}.zst`);
  }
  const sums: string[] = [];
  // The image itself is named by the sums in its block map.
  for (const file of files.slice(1)) sums.push(`${await sha256Of(file)}  ${basename(file)}\n`);
  const path = join(dirname(image), `${basename(image, ".img")}.SHA256SUMS`);
  await writeFile(path, sums.join(""));
  return [...files, path];
}

export const bytesOf = async (path: string): Promise<number> => (await stat(path)).size;
