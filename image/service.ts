// SPDX-License-Identifier: Apache-2.0
/**
 * Puts Holdfast into the system of an image: its sources with the packages of the lock file, the runtime of the box's
 * architecture, the commands, and what version this is.
 *
 * Sources, not a compiled program: Workers and native parts run as they are tested. Without `--bun` the runtime comes from
 * its own registry package, of the version and sum that scripts/setup.sh names.
 */
import { createHash } from "node:crypto";
import { existsSync } from "node:fs";
import { appendFile, chmod, cp, mkdir, readFile, rename, rm, utimes, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { ImageError, run } from "./commands.ts";
import type { ImageArchitecture } from "./packages.ts";

export type ImageFacts = {
  readonly version: string;
  readonly commit: string;
  /** The commit's time: what every file of the image is dated. */
  readonly builtAtMs: number;
  readonly architecture: ImageArchitecture;
  /** Updates for another kind of box are refused. */
  readonly compatible: string;
  /** Whether anybody has the key that signs its updates. */
  readonly testKey: boolean;
};

const top = join(import.meta.dir, "..");
const shipped = ["src", "board", "vm", "package.json", "bun.lock", "bunfig.toml", "LICENSE"];
const elfMachine = { arm64: 183, x86_64: 62 } as const;

export async function putService(
  tree: string,
  facts: ImageFacts,
  bun: string,
  tell: (text: string) => void,
): Promise<void> {
  const home = join(tree, "usr/lib/holdfast");
  const listed = await run(["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z", ...shipped], {
    directory: top,
  });
  for (const path of listed
    .split("\0")
    .filter((item) => item !== "")
    .sort()) {
    if (!existsSync(join(top, path))) continue;
    await mkdir(dirname(join(home, path)), { recursive: true });
    await cp(join(top, path), join(home, path));
  }
  tell("installing the packages of bun.lock");
  const selection = ["--production", "--frozen-lockfile", "--ignore-scripts", "--backend=copyfile", "--silent"];
  await run([process.execPath, "install", ...selection], { directory: home });
  await rm(join(home, "node_modules/.cache"), { recursive: true, force: true });
  await mkdir(join(home, "bin"), { recursive: true });
  await cp(bun, join(home, "bin/bun"));
  await chmod(join(home, "bin/bun"), 0o755);
  const start = (entry: string): string =>
    `#!/bin/sh\nexec /usr/lib/holdfast/bin/bun --no-env-file --config=/usr/lib/holdfast/bunfig.toml /usr/lib/holdfast/${entry} "$@"\n`;
  await writeFile(join(tree, "usr/bin/holdfast"), start("src/cli/main.ts"), { mode: 0o755 });
  // RAUC calls it by this name. Debian's own empties the file before it writes: a power cut then leaves nothing.
  await writeFile(join(tree, "usr/bin/grub-editenv"), start("src/appliance/update/grubEditenv.ts"), { mode: 0o755 });
  await writeFile(join(home, "image.json"), `${JSON.stringify(facts, null, 2)}\n`);
  const seconds = facts.builtAtMs / 1000;
  await utimes(join(home, "image.json"), seconds, seconds);
  await nameSystem(tree, facts);
}

async function nameSystem(tree: string, { version, compatible, architecture }: ImageFacts): Promise<void> {
  const release = join(tree, "usr/lib/os-release");
  const text = (await readFile(release, "utf8")).replace(
    /^PRETTY_NAME=.*$/m,
    `PRETTY_NAME="Holdfast ${version} (Debian 13)"`,
  );
  await writeFile(release, `${text}IMAGE_ID=holdfast\nIMAGE_VERSION=${version}\n`);
  const slots = ["A", "B"].flatMap((name, index) => [
    `[slot.root.${index}]\ndevice=/dev/disk/by-partlabel/root_${name}\ntype=raw\nbootname=${name}\n`,
    `[slot.boot.${index}]\ndevice=/dev/disk/by-partlabel/boot_${name}\ntype=raw\nparent=root.${index}\n`,
  ]);
  const head = [
    "[system]",
    `compatible=${compatible}`,
    "bootloader=grub",
    "grubenv=/esp/grub/grubenv",
    "data-directory=/state/rauc",
    "bundle-formats=verity",
    // The usual place is on the root, which cannot be written.
    "mountprefix=/run/rauc",
    "[keyring]",
    "path=/etc/rauc/keyring.pem",
    "",
  ];
  await writeFile(join(tree, "etc/rauc/system.conf"), [head.join("\n"), ...slots].join("\n"));
  await appendFile(join(tree, "etc/issue"), `Holdfast ${version} on ${architecture}\n`);
}

/** The runtime for the box, from its registry package. Cached. @throws ImageError */
export async function fetchBun(
  architecture: ImageArchitecture,
  cache: string,
  tell: (text: string) => void,
): Promise<string> {
  const setup = await readFile(join(top, "scripts/setup.sh"), "utf8");
  const version = /^bun_version=(\S+)$/m.exec(setup)?.[1];
  const name = architecture === "arm64" ? "bun-linux-aarch64" : "bun-linux-x64-baseline";
  const sum = new RegExp(`package=${name} sum=([0-9a-f]{128})`).exec(setup)?.[1];
  if (version === undefined || sum === undefined) {
    throw new ImageError("image.input", `scripts/setup.sh names no sum for ${name}`);
  }
  const kept = join(cache, `bun-${version}-${architecture}`);
  if (existsSync(kept)) return kept;
  tell(`getting Bun ${version} for ${architecture} through npm`);
  const work = join(cache, "bun-new");
  await rm(work, { recursive: true, force: true });
  await mkdir(work, { recursive: true });
  const packed = await run(["npm", "pack", "--silent", `@oven/${name}@${version}`], { directory: work });
  const file = join(work, packed.trim().split("\n").at(-1)!);
  const got = createHash("sha512")
    .update(await readFile(file))
    .digest("hex");
  if (got !== sum) throw new ImageError("image.input", `${file} is not the Bun ${version} that was published`);
  await run(["tar", "-xzf", file, "-C", work, "package/bin/bun"]);
  await rename(join(work, "package/bin/bun"), kept);
  await rm(work, { recursive: true });
  return kept;
}

/** That a program runs on the box's processor, and whether it brings all its libraries. @throws ImageError image.input */
export async function checkProgram(file: string, architecture: ImageArchitecture): Promise<"static" | "dynamic"> {
  if (!existsSync(file)) throw new ImageError("image.input", `there is no file ${file}`);
  const head = Buffer.from(await Bun.file(file).slice(0, 4_096).arrayBuffer());
  const isElf = head.length > 64 && head.readUInt32BE(0) === 0x7f454c46;
  if (!isElf || head.readUInt16LE(18) !== elfMachine[architecture]) {
    throw new ImageError("image.input", `${file} is no program for ${architecture}`);
  }
  const [at, size, count] = [Number(head.readBigUInt64LE(32)), head.readUInt16LE(54), head.readUInt16LE(56)];
  for (let index = 0; index < count && at + (index + 1) * size <= head.length; index += 1) {
    // PT_INTERP: a loader is asked for.
    if (head.readUInt32LE(at + index * size) === 3) return "dynamic";
  }
  return "static";
}
