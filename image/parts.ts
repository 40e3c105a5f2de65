// SPDX-License-Identifier: Apache-2.0
/**
 * The file systems of the disk, each filled from a folder into a file: nothing is mounted, no loop device is used.
 *
 * Gets the finished system; gives files under the work folder. Ids, times and salts are fixed, so equal input gives equal
 * bytes (ext4: from e2fsprogs 1.47.1 on, which honours SOURCE_DATE_EPOCH).
 */
import { existsSync } from "node:fs";
import { cp, mkdir, readdir, readFile, truncate, writeFile } from "node:fs/promises";
import { basename, join } from "node:path";
import { run } from "./commands.ts";
import { buildInitrd } from "./initrd.ts";
import { mib, type PartitionName, partitionOf } from "./layout.ts";
import { deviceTrees, type ImageArchitecture, loaderOf } from "./packages.ts";
import type { Tools } from "./tools.ts";
import type { SystemTree } from "./tree.ts";

export type PartFiles = Readonly<Record<Exclude<PartitionName, "root_B" | "boot_B" | "data">, string>>;

const ids = {
  root: "3f3cf9a0-52d4-4b0c-9d0e-2c5b2b8e7a01",
  boot: "3f3cf9a0-52d4-4b0c-9d0e-2c5b2b8e7a02",
  state: "3f3cf9a0-52d4-4b0c-9d0e-2c5b2b8e7a03",
} as const;
const fatId = "484f4c44";
const loaderModules = [
  ..."part_gpt fat ext2 normal configfile loadenv linux test regexp echo reboot sleep boot search true".split(" "),
];
const ownModules = { arm64: ["fdt"], x86_64: [] } as const;
const loaderStart = "configfile $prefix/grub.cfg\nreboot\n";
/** A console is found by device tree or ACPI on arm64; a PC has both of these. */
const kernelOptions = {
  arm64: "",
  x86_64: "console=ttyS0,115200 console=tty0 ",
} as const;
const alwaysOptions = "quiet panic=5 systemd.gpt_auto=no systemd.getty_auto=no systemd.condition_needs_update=no";
const environmentBytes = 1_024;
const ext4Features = "^metadata_csum_seed,^orphan_file";

export async function buildBoot(tools: Tools, tree: SystemTree): Promise<string> {
  const folder = join(tools.work, "boot");
  await mkdir(folder);
  await copyDeviceTrees(tree, join(folder, "dtbs"));
  await cp(join(tree.debian, `boot/vmlinuz-${tree.release}`), join(folder, "vmlinuz"));
  await writeFile(join(folder, "initrd"), await buildInitrd(tools, tree));
  return await ext4(tools, "boot_A", "boot.img", ids.boot, "/build/boot", ["-O", `${ext4Features},^has_journal`]);
}

async function copyDeviceTrees({ debian, release }: SystemTree, target: string): Promise<void> {
  const source = join(debian, "usr/lib", `linux-image-${release}`);
  if (!existsSync(source)) return;
  for (const path of (await readdir(source, { recursive: true })).sort()) {
    if (!path.endsWith(".dtb") || !deviceTrees.some((start) => path.startsWith(start))) continue;
    await cp(join(source, path), join(target, path));
  }
}

export const buildState = (tools: Tools): Promise<string> =>
  ext4(tools, "state", "state.img", ids.state, null, ["-O", ext4Features]);

async function ext4(
  tools: Tools,
  name: PartitionName,
  file: string,
  id: string,
  source: string | null,
  more: readonly string[],
): Promise<string> {
  const words = ["mke2fs", "-q", "-t", "ext4", "-m", "0", "-U", id, "-E", `hash_seed=${id},root_owner=0:0`, ...more];
  const filled = source === null ? [] : ["-d", source];
  if (source !== null) await dateAll(tools, join(tools.work, basename(source)));
  await tools.run([...words, ...filled, `/build/${file}`, `${partitionOf(name).sizeMiB}M`]);
  return join(tools.work, file);
}

/** Dates all files of a folder with the one time of the build. */
async function dateAll(tools: Tools, folder: string): Promise<void> {
  await run(["find", folder, "-exec", "touch", "-h", "-d", `@${tools.sourceDateEpoch}`, "{}", "+"]);
}

export async function buildRoot(tools: Tools, tree: SystemTree): Promise<string> {
  const words = ["mkfs.erofs", "-zlz4", "-T", String(tools.sourceDateEpoch), "--all-time", "-U", ids.root, "--quiet"];
  await tools.run([...words, "/build/root.img", tree.inside]);
  return join(tools.work, "root.img");
}

/** `deviceTree`: the one that the boot loader is to hand over, where the board's firmware does not. */
export async function buildEsp(
  tools: Tools,
  tree: SystemTree,
  architecture: ImageArchitecture,
  deviceTree: string | null,
): Promise<string> {
  const { file, platform } = loaderOf[architecture];
  const folder = join(tools.work, "esp");
  await mkdir(folder);
  await cp(join(tree.debian, "usr/lib/grub", platform), join(tools.work, "grub"), { recursive: true });
  await writeFile(join(folder, "start.cfg"), loaderStart);
  const image = ["grub-mkimage", "-O", platform, "-d", "/build/grub", "-p", "/grub", "-c", "/build/esp/start.cfg"];
  await tools.run([...image, "-o", `/build/esp/${file}`, ...loaderModules, ...ownModules[architecture]]);
  const text = await readFile(join(import.meta.dir, "system/grub.cfg"), "utf8");
  const options = `${kernelOptions[architecture]}${alwaysOptions}`;
  await writeFile(join(folder, "grub.cfg"), text.replace("HOLDFAST_OPTIONS", options));
  await writeFile(join(folder, "grubenv"), firstEnvironment());
  const board = deviceTree === null ? "" : `set device_tree="${deviceTree}"\n`;
  await writeFile(
    join(folder, "board.cfg"),
    `# The device tree for the kernel, under dtbs/ of the boot partition.\n${board}`,
  );
  await writeFile(join(folder, "READ-ME.txt"), await readFile(join(import.meta.dir, "system/READ-ME.txt")));
  const path = join(tools.work, "esp.img");
  await writeFile(path, "");
  await truncate(path, partitionOf("esp").sizeMiB * mib);
  await tools.run(["mkfs.fat", "-F", "32", "-s", "1", "-n", "HOLDFAST", "-i", fatId, "--invariant", "/build/esp.img"]);
  await tools.run(["mmd", "-i", "/build/esp.img", "::EFI", "::EFI/BOOT", "::grub", "::holdfast"]);
  await dateAll(tools, join(tools.work, "esp"));
  const places = [
    [file, `EFI/BOOT/${file}`],
    ["grub.cfg", "grub/grub.cfg"],
    ["board.cfg", "grub/board.cfg"],
    ["grubenv", "grub/grubenv"],
    ["grubenv", "grub/grubenv.spare"],
    ["READ-ME.txt", "holdfast/READ-ME.txt"],
  ] as const;
  for (const [from, to] of places) {
    await tools.run(["mcopy", "-m", "-i", "/build/esp.img", `/build/esp/${from}`, `::${to}`]);
  }
  return path;
}

/** Both slots good and untried. The format is GRUB's: a head line, NAME=VALUE lines, filled with `#`. */
function firstEnvironment(): string {
  const lines = ["# GRUB Environment Block", "ORDER=A B", "A_OK=1", "A_TRY=0", "B_OK=1", "B_TRY=0", ""];
  return lines.join("\n").padEnd(environmentBytes, "#");
}
