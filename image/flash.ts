// SPDX-License-Identifier: Apache-2.0
/**
 * `image/flash FILE.img DEVICE`: writes an image to a card, and reads it back.
 *
 * Writes only what the block map beside the image names. Refused: a device that is in use or smaller than the image, and,
 * without `--yes`, any device at all until the user has typed its name.
 */
import { createHash } from "node:crypto";
import { existsSync } from "node:fs";
import { type FileHandle, open, readFile } from "node:fs/promises";
import { parseArgs } from "node:util";
import { explain } from "#errors.ts";
import { readBlockMap } from "./blockMap.ts";
import { ImageError } from "./commands.ts";
import { mib } from "./layout.ts";

const usage = `usage: image/flash FILE.img DEVICE [--yes]

  Writes the image to the whole device (as /dev/sdb or /dev/mmcblk0), erasing it, and reads it back. Needs root, and the
  image's block map (FILE.img.bmap).`;

type Flash = { readonly image: string; readonly device: string; readonly asks: boolean };

async function flash({ image, device, asks }: Flash): Promise<void> {
  const mapPath = `${image}.bmap`;
  if (!existsSync(image) || !existsSync(mapPath))
    throw new ImageError("image.input", `${image} or its .bmap is not there`);
  const runs = readBlockMap(await readFile(mapPath, "utf8"));
  if (runs === null) throw new ImageError("image.input", `${mapPath} is no block map of image/build`);
  await refuseUse(device);
  // O_EXCL on a block device: the kernel refuses one that is mounted or held.
  await using target = await openAlone(device);
  await using source = await open(image, "r");
  const room = await sizeOf(target);
  const needed = (await source.stat()).size;
  if (room < needed) {
    throw new ImageError("image.disk", `${device} has ${room} bytes and the image needs ${needed}`);
  }
  if (
    asks &&
    prompt(`All of ${device} (${(room / 1e9).toFixed(1)} GB) is erased. Type ${device} to go on:`) !== device
  ) {
    throw new ImageError("image.disk", "nothing was written");
  }
  const total = runs.reduce((sum, { sizeMiB }) => sum + sizeMiB, 0);
  const chunk = Buffer.alloc(mib);
  let done = 0;
  for (const { startMiB, sizeMiB } of runs) {
    for (let at = startMiB; at < startMiB + sizeMiB; at += 1) {
      await source.read(chunk, 0, mib, at * mib);
      await target.write(chunk, 0, mib, at * mib);
      done += 1;
    }
    await target.sync();
    console.log(`image/flash: written ${done} of ${total} MiB`);
  }
  for (const { startMiB, sizeMiB, sum } of runs) {
    if ((await sumOf(target, startMiB, sizeMiB)) !== sum) {
      throw new ImageError("image.disk", `${device} reads back otherwise from ${startMiB} MiB on: the card is bad`);
    }
  }
  console.log(`image/flash: ${device} holds the image, read back and equal`);
}

async function sumOf(file: FileHandle, startMiB: number, sizeMiB: number): Promise<string> {
  const hash = createHash("sha256");
  const chunk = Buffer.alloc(mib);
  for (let at = startMiB; at < startMiB + sizeMiB; at += 1) {
    await file.read(chunk, 0, mib, at * mib);
    hash.update(chunk);
  }
  return hash.digest("hex");
}

/** @throws ImageError image.disk where it or a part of it is mounted, or swapped to */
async function refuseUse(device: string): Promise<void> {
  if (!existsSync(device)) throw new ImageError("image.input", `there is no device ${device}`);
  const used = `${await readFile("/proc/mounts", "utf8")}\n${await readFile("/proc/swaps", "utf8")}`;
  const line = used.split("\n").find((item) => {
    const name = item.split(" ")[0]!;
    return name === device || (name.startsWith(device) && /^p?\d+$/.test(name.slice(device.length)));
  });
  if (line !== undefined)
    throw new ImageError("image.disk", `${device} is in use: ${line.split(" ").slice(0, 2).join(" on ")}`);
}

async function openAlone(device: string): Promise<FileHandle> {
  const exclusive = 0o200;
  const readWrite = 2;
  try {
    return await open(device, device.startsWith("/dev/") ? readWrite | exclusive : readWrite);
  } catch (cause) {
    throw new ImageError("image.disk", `${device} cannot be opened for writing alone`, {}, cause);
  }
}

/** A block device tells its size by where it ends. */
async function sizeOf(file: FileHandle): Promise<number> {
  const { size } = await file.stat();
  if (size > 0) return size;
  const byte = Buffer.alloc(1);
  let [least, most] = [0, 2 ** 46];
  while (most - least > 1) {
    const middle = Math.floor((least + most) / 2);
    const { bytesRead } = await file.read(byte, 0, 1, middle - 1).catch(() => ({ bytesRead: 0 }));
    if (bytesRead === 1) least = middle;
    else most = middle;
  }
  return least;
}

try {
  const { values, positionals } = parseArgs({
    args: process.argv.slice(2),
    allowPositionals: true,
    options: { yes: { type: "boolean", default: false }, help: { type: "boolean", short: "h" } },
  });
  const [image, device] = positionals;
  if (values.help === true || image === undefined || device === undefined) {
    console.log(usage);
    process.exit(values.help === true ? 0 : 2);
  }
  await flash({ image, device, asks: !values.yes });
} catch (error) {
  console.error(`image/flash: ${explain(error)}`);
  process.exit(1);
}
