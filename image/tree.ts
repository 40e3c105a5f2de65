// SPDX-License-Identifier: Apache-2.0
/**
 * The system of an image, as a tree of files: Debian's packages, and what their scripts would have made and we need.
 *
 * Gets a cache and an architecture; gives a fresh copy of the tree under the work folder of the tools, finished but for
 * Holdfast itself. Users come from Debian's own lists (base-passwd, sysusers.d).
 */
import { existsSync } from "node:fs";
import { appendFile, chown, cp, mkdir, readdir, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { ImageError, run } from "./commands.ts";
import { guestKit, guestKitUnits } from "./guestKit.ts";
import { compareWithLock } from "./lock.ts";
import {
  bootPackages,
  debianName,
  type ImageArchitecture,
  leftOut,
  modulesLeftOut,
  suite,
  systemPackages,
  treeVersion,
} from "./packages.ts";
import { type Archive, packageRecord, type Tools, unpackDebian } from "./tools.ts";

export type SystemTree = {
  readonly path: string;
  /** The same folder as the tools see it. */
  readonly inside: string;
  readonly release: string;
  /** The Debian packages as they were unpacked, kernel and boot loader in it. */
  readonly debian: string;
};

const system = join(import.meta.dir, "system");
const units = join(import.meta.dir, "units");
/** Of Debian's, switched on for every box. */
const enabledUnits = ["systemd-networkd.service", "systemd-resolved.service", "systemd-timesyncd.service"];
/** They wait for what a read-only system does not have, or do what it must not. */
const maskedUnits = [
  "systemd-update-done.service",
  "systemd-journal-catalog-update.service",
  "ldconfig.service",
  "systemd-hwdb-update.service",
  "systemd-firstboot.service",
  "systemd-machine-id-commit.service",
  "systemd-networkd-wait-online.service",
  "systemd-repart.service",
  "apt-daily.timer",
  "apt-daily-upgrade.timer",
  "dpkg-db-backup.timer",
  "e2scrub_all.timer",
  "e2scrub_reap.service",
  "fstrim.timer",
  "wpa_supplicant.service",
  // Not on a box without a screen, a keyboard, and formats of other machines: each costs its start.
  "systemd-binfmt.service",
  "proc-sys-fs-binfmt_misc.automount",
  "sys-kernel-debug.mount",
  "sys-fs-fuse-connections.mount",
  "systemd-rfkill.socket",
  "systemd-sysext.socket",
  "systemd-creds.socket",
  "systemd-initctl.socket",
  "systemd-network-generator.service",
  "systemd-networkd-persistent-storage.service",
  "systemd-ask-password-console.path",
  "systemd-ask-password-wall.path",
];

export async function unpackSystem(
  tools: Tools,
  archive: Archive,
  cache: string,
  architecture: ImageArchitecture,
  tell: (text: string) => void,
): Promise<SystemTree> {
  const debian = join(cache, `debian-${debianName[architecture]}-${treeVersion}`);
  if (!existsSync(debian)) {
    tell(`unpacking Debian ${suite} for ${architecture}, once`);
    const packages = [...systemPackages, ...bootPackages[architecture]];
    await unpackDebian(archive, debianName[architecture], packages, debian, removeUnneeded);
  }
  await compareWithLock(`debian-${debianName[architecture]}`, join(debian, packageRecord), archive.lock, tell);
  const path = join(tools.work, "tree");
  await run(["cp", "-a", "--reflink=auto", debian, path]);
  await rm(join(path, packageRecord));
  const [release] = await readdir(join(path, "usr/lib/modules"));
  if (release === undefined) throw new ImageError("image.layout", `no kernel modules were unpacked in ${debian}`);
  const tree: SystemTree = { path, inside: "/build/tree", release, debian };
  await finish(tools, tree);
  return tree;
}

/** Before the tree is cached. */
async function removeUnneeded(path: string): Promise<void> {
  for (const item of leftOut) await rm(join(path, item), { recursive: true, force: true });
  for (const name of await readdir(join(path, "usr/bin"))) {
    if (name.startsWith("grub-")) await rm(join(path, "usr/bin", name));
  }
  for (const release of await readdir(join(path, "usr/lib/modules"))) {
    const modules = join(path, "usr/lib/modules", release);
    for (const item of modulesLeftOut) await rm(join(modules, item), { recursive: true, force: true });
  }
}

async function finish(tools: Tools, tree: SystemTree): Promise<void> {
  const { path, inside, release } = tree;
  await rm(join(path, "boot"), { recursive: true });
  await rm(join(path, "usr/lib/grub"), { recursive: true });
  await rm(join(path, "usr/lib", `linux-image-${release}`), { recursive: true, force: true });
  await tools.run(["depmod", "-b", inside, release]);
  await makeUsers(tools, tree);
  await writeSettings(path);
  await placeUnits(tools, tree);
}

async function makeUsers(tools: Tools, { path, inside }: SystemTree): Promise<void> {
  for (const name of ["passwd", "group"]) {
    await cp(join(path, "usr/share/base-passwd", `${name}.master`), join(path, "etc", name));
  }
  await writeFile(join(path, "usr/lib/sysusers.d/holdfast.conf"), 'u redis - "redis" /data -\n');
  await tools.run(["systemd-sysusers", `--root=${inside}`]);
  // No password opens this box: whoever may sit at its console says so by a file on the boot partition.
  for (const name of ["etc/passwd-", "etc/group-", "etc/shadow-", "etc/gshadow-", "etc/.pwd.lock"]) {
    await rm(join(path, name), { force: true });
  }
}

async function writeSettings(path: string): Promise<void> {
  const write = async (name: string, text: string, mode = 0o644): Promise<void> => {
    await rm(join(path, name), { force: true });
    await writeFile(join(path, name), text, { mode });
  };
  const link = async (target: string, name: string): Promise<void> => {
    await rm(join(path, name), { force: true, recursive: true });
    await symlink(target, join(path, name));
  };
  for (const name of ["boot", "esp", "state", "data", "usr/lib/holdfast/repart.d", "usr/share/holdfast", "etc/rauc"]) {
    await mkdir(join(path, name), { recursive: true });
  }
  await write("etc/nsswitch.conf", "passwd: files\ngroup: files\nshadow: files\nhosts: files resolve dns\n");
  await write("etc/hosts", "127.0.0.1 localhost\n::1 localhost\n");
  // The initial RAM disk binds the box's own over it before systemd starts.
  await write("etc/machine-id", "");
  await rm(join(path, "etc/hostname"), { force: true });
  await link("../proc/self/mounts", "etc/mtab");
  await link("../run/systemd/resolve/resolv.conf", "etc/resolv.conf");
  await link("/data/etc/holdfast", "etc/holdfast");
  await link("/usr/share/zoneinfo/Etc/UTC", "etc/localtime");
  await link("mawk", "usr/bin/awk");
  const certificates = join(path, "usr/share/ca-certificates/mozilla");
  const names = (await readdir(certificates)).sort();
  const texts = await Promise.all(names.map((name) => readFile(join(certificates, name), "utf8")));
  await mkdir(join(path, "etc/ssl/certs"), { recursive: true });
  await write("etc/ssl/certs/ca-certificates.crt", texts.join(""));
  await cp(join(system, "fstab"), join(path, "etc/fstab"));
  for (const name of ["setup", "network"]) {
    await cp(join(system, name), join(path, "usr/lib/holdfast", name));
    await run(["chmod", "755", join(path, "usr/lib/holdfast", name)]);
  }
  await cp(join(system, "repart-data.conf"), join(path, "usr/lib/holdfast/repart.d/50-data.conf"));
  await cp(join(system, "holdfast.toml"), join(path, "usr/share/holdfast/holdfast.toml"));
  await mkdir(join(path, "etc/systemd/journald.conf.d"), { recursive: true });
  await write(
    "etc/systemd/journald.conf.d/10-holdfast.conf",
    "[Journal]\nStorage=persistent\nSystemMaxUse=200M\nRuntimeMaxUse=32M\n",
  );
  await rm(join(path, "var/log"), { recursive: true, force: true });
  await appendFile(join(path, "etc/environment"), "");
  await chown(join(path, "usr/lib/holdfast"), 0, 0);
}

async function placeUnits(tools: Tools, { path, inside }: SystemTree): Promise<void> {
  const own: string[] = [];
  for (const name of (await readdir(units)).sort()) {
    if (name.endsWith(".conf")) {
      await mkdir(join(path, "etc/systemd/system.conf.d"), { recursive: true });
      await cp(join(units, name), join(path, "etc/systemd/system.conf.d", name));
      continue;
    }
    await cp(join(units, name), join(path, "usr/lib/systemd/system", name));
    const text = await readFile(join(units, name), "utf8");
    if (text.includes("[Install]")) own.push(name);
  }
  // For the sample guest, which is the box's own system.
  for (const name of guestKitUnits) {
    await cp(join(guestKit, name), join(path, "usr/lib/systemd/system", name));
  }
  const systemctl = (words: readonly string[]): Promise<string> =>
    tools.run(["systemctl", `--root=${inside}`, ...words]);
  await systemctl(["enable", ...enabledUnits, ...own]);
  await systemctl(["mask", ...maskedUnits]);
  await symlink("/usr/lib/systemd/system/multi-user.target", join(path, "etc/systemd/system/default.target"));
}
