// SPDX-License-Identifier: Apache-2.0
/**
 * Puts the parts together into one disk image: a sparse file, with both slots filled.
 */
import { truncate, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { ImageError, run } from "./commands.ts";
import { diskMiB, mib, type PartitionName, partitionOf, sfdiskScript } from "./layout.ts";
import type { Firmware } from "./options.ts";
import type { PartFiles } from "./parts.ts";
import type { Tools } from "./tools.ts";

/** The image's path under the work folder. @throws ImageError image.layout where a part does not fit */
export async function buildDisk(tools: Tools, parts: PartFiles, firmware: readonly Firmware[]): Promise<string> {
  const path = join(tools.work, "disk.img");
  await writeFile(path, "");
  await truncate(path, diskMiB() * mib);
  await tools.run(["sfdisk", "--quiet", "/build/disk.img"], sfdiskScript());
  const files: readonly (readonly [PartitionName, string])[] = [
    ["esp", parts.esp],
    ["boot_A", parts.boot_A],
    ["root_A", parts.root_A],
    ["boot_B", parts.boot_A],
    ["root_B", parts.root_A],
    ["state", parts.state],
  ];
  for (const [name, file] of files) {
    const { startMiB, sizeMiB } = partitionOf(name);
    const { size } = Bun.file(file);
    if (size > sizeMiB * mib) {
      throw new ImageError("image.layout", `${name} needs ${Math.ceil(size / mib)} MiB and has ${sizeMiB} MiB`);
    }
    await run(["dd", `if=${file}`, `of=${path}`, "bs=1M", `seek=${startMiB}`, "conv=notrunc,sparse", "status=none"]);
  }
  for (const { file, atBytes } of firmware) {
    const end = atBytes + Bun.file(file).size;
    if (end > partitionOf("esp").startMiB * mib) {
      throw new ImageError("image.layout", `${file} at byte ${atBytes} reaches into the first partition`);
    }
    const place = [`seek=${atBytes}`, "oflag=seek_bytes", "conv=notrunc", "status=none"];
    await run(["dd", `if=${file}`, `of=${path}`, "bs=1M", ...place]);
  }
  return path;
}
