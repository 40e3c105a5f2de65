// SPDX-License-Identifier: Apache-2.0
/**
 * The second disk of the lab's machine: this checkout with its packages, the given Bun and Cloud Hypervisor, what the guest
 * boots, and the init that starts the scenario.
 */
import { chmod, cp, mkdir, rm, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { hasInterpreter } from "#appliance/guests/checkpointAbility.ts";
import { run } from "#image/commands.ts";
import { initrdFor } from "./initrd.ts";
import type { LabArchitecture, LabRoot } from "./root.ts";

export type PayloadParts = {
  readonly architecture: LabArchitecture;
  readonly root: LabRoot;
  readonly bun: string;
  readonly hypervisor: string;
  readonly work: string;
  /** Handed to the scenario as its arguments. */
  readonly words: readonly string[];
};

const top = join(import.meta.dir, "../..");

const init = (words: readonly string[]): string => `#!/bin/sh
export PATH=/lab/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root
mount -t tmpfs run /run; mount -t tmpfs tmp /tmp; mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts; mount -t tmpfs shm /dev/shm
mount -t tracefs tracefs /sys/kernel/tracing; mount -t debugfs debugfs /sys/kernel/debug
modprobe -a tun bridge xfs kvm_amd 2>/dev/null
ip link set lo up
mkfs.xfs -q -m reflink=1 /dev/vdd && mkdir -p /run/guest && mount -t xfs /dev/vdd /run/guest
cp --sparse=always /dev/vdc /run/guest/root.img && echo "LAB disk ready"
ip link add br0 type bridge; ip address add 192.168.77.1/24 dev br0; ip link set br0 up
cd /lab/holdfast
bun scripts/lab/inside.ts ${words.join(" ")} 2>&1
echo LAB ended $?
echo o > /proc/sysrq-trigger
sleep 60
`;

/** Builds it; gives the path of the image. */
export async function buildPayload(parts: PayloadParts): Promise<string> {
  const { architecture, root, bun, hypervisor, work, words } = parts;
  const tree = join(work, "payload");
  const image = join(work, "payload.ext4");
  await rm(tree, { recursive: true, force: true });
  await rm(image, { force: true });
  for (const path of ["bin", "guest", "holdfast"]) await mkdir(join(tree, path), { recursive: true });
  await cp(bun, join(tree, "bin/bun"));
  await putHypervisor(hypervisor, join(tree, "bin"));
  await chmod(join(tree, "bin/bun"), 0o755);
  await cp(root.kernel, join(tree, "guest/vmlinuz"));
  await writeFile(join(tree, "guest/initrd"), await initrdFor(root, "/sbin/init"));
  await writeFile(join(tree, "init"), init([architecture, ...words]), { mode: 0o755 });
  await copyCheckout(join(tree, "holdfast"), ["--production"]);
  await run(["mke2fs", "-q", "-t", "ext4", "-d", tree, image, "700M"]);
  return image;
}

/** A dynamically linked build would die in its seccomp filter at the first checkpoint: that one only logs. */
export async function putHypervisor(hypervisor: string, bin: string): Promise<void> {
  const isDynamic = hasInterpreter(hypervisor);
  const name = isDynamic ? "cloud-hypervisor.dynamic" : "cloud-hypervisor";
  await cp(hypervisor, join(bin, name));
  await chmod(join(bin, name), 0o755);
  if (!isDynamic) return;
  const script = `#!/bin/sh\nexec /lab/bin/${name} --seccomp log "$@"\n`;
  await writeFile(join(bin, "cloud-hypervisor"), script, { mode: 0o755 });
}

/** Files that git knows or would know, and the packages of the lock file, those that `selection` leaves out apart. */
export async function copyCheckout(target: string, selection: readonly string[]): Promise<void> {
  const listed = await run(["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"], { directory: top });
  for (const path of listed.split("\0").filter((item) => item !== "")) {
    await mkdir(dirname(join(target, path)), { recursive: true });
    await cp(join(top, path), join(target, path), { force: true }).catch(() => {});
  }
  await run([process.execPath, "install", ...selection, "--frozen-lockfile", "--ignore-scripts"], {
    directory: target,
  });
}
