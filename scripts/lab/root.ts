// SPDX-License-Identifier: Apache-2.0
/**
 * The Debian root file system of the lab: one image for the machine and for its guest, one for a machine that runs the
 * tests of real programs; from Debian packages alone.
 *
 * Gets an architecture, a cache and which of the two; gives a kernel, the modules that an initial RAM disk needs, and an ext4 image. Packages
 * are unpacked only (no script of theirs runs), so a foreign architecture needs no emulation; what their scripts would have
 * made and we need is written here. Needs root, mmdebstrap, e2fsprogs and kmod. About 20 s and 600 MB.
 */
import { existsSync } from "node:fs";
import { appendFile, chown, cp, mkdir, readdir, rename, rm, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { run } from "#image/commands.ts";
import { guestKit, guestKitSockets, guestKitUnits } from "#image/guestKit.ts";
import { LabError } from "./labError.ts";

export type LabArchitecture = "x86_64" | "arm64";

export type LabRoot = {
  readonly kernel: string;
  readonly image: string;
  /** Of the initial RAM disk, in the order of loading, with their bytes' places. */
  readonly modules: readonly string[];
  readonly busybox: string;
};

/** `guest`: what a guarded guest has. `tests`: the servers and compilers that tests of real programs need, too. */
export type RootKind = "guest" | "tests";

/** Raised when what is built here changes. */
const version = 9;
const suite = "bookworm";
const debianName = { x86_64: "amd64", arm64: "arm64" } as const;
const packages = [
  ..."systemd systemd-sysv udev busybox-static gdbserver redis-server redis-tools nginx-light iproute2 procps kmod".split(
    " ",
  ),
  ..."dbus libc-bin curl util-linux mount login passwd bash dash coreutils sed grep libstdc++6 util-linux-extra xfsprogs".split(
    " ",
  ),
];
const testPackages =
  "gcc g++ libc6-dev binutils memcached mosquitto mosquitto-clients openssl libssl-dev lighttpd git ca-certificates".split(
    " ",
  );
const imageMiB = { guest: 1_500, tests: 2_500 } as const;
/** Everything that the machine, its guest and what runs in them may load. */
const wantedModules = [
  ..."virtio_pci virtio_blk ext4 virtio_net virtio_rng virtio_console vmw_vsock_virtio_transport pvpanic-pci tun bridge".split(
    " ",
  ),
  ..."virtio_balloon i6300esb af_packet veth xfs loop tcp_diag".split(" "),
  // How the power button comes in, by ACPI or by a pin.
  ..."button evdev gpio_keys gpio-pl061".split(" "),
];
const kvmModules = { x86_64: ["kvm_amd"], arm64: [] } as const;
/** Loaded before the root is mounted. */
const earlyModules = ["virtio_pci", "virtio_blk", "ext4"];

export async function buildRoot(
  architecture: LabArchitecture,
  cache: string,
  tell: (text: string) => void,
  kind: RootKind = "guest",
): Promise<LabRoot> {
  const home = join(cache, `root-${architecture}-${kind === "guest" ? "" : `${kind}-`}${version}`);
  if (!existsSync(home)) {
    if (process.getuid?.() !== 0) throw new LabError("lab.missing", "building the lab's images needs root");
    const draft = `${home}.draft`;
    await rm(draft, { recursive: true, force: true });
    await mkdir(draft, { recursive: true, mode: 0o755 });
    await unpack(architecture, kind, join(draft, "tree"), tell);
    await finish(architecture, join(draft, "tree"));
    tell("writing the root image");
    await run([
      "mke2fs",
      "-q",
      "-t",
      "ext4",
      "-d",
      join(draft, "tree"),
      join(draft, "root.ext4"),
      `${imageMiB[kind]}M`,
    ]);
    await rename(draft, home);
  }
  const tree = join(home, "tree");
  const release = (await readdir(join(tree, "lib/modules")))[0]!;
  return {
    kernel: join(tree, `boot/vmlinuz-${release}`),
    image: join(home, "root.ext4"),
    modules: await closure(tree, release, [...earlyModules, ...kvmModules[architecture]]),
    busybox: join(tree, "bin/busybox"),
  };
}

async function unpack(
  architecture: LabArchitecture,
  kind: RootKind,
  tree: string,
  tell: (text: string) => void,
): Promise<void> {
  const debian = debianName[architecture];
  tell(`unpacking Debian ${suite} for ${debian}`);
  const include = [...packages, ...(kind === "tests" ? testPackages : []), `linux-image-${debian}`].join(",");
  // Its own sandbox user must be able to reach the tree, whatever our umask is.
  const umask = process.umask(0o022);
  try {
    await run(["mmdebstrap", "--variant=extract", `--architectures=${debian}`, `--include=${include}`, suite, tree]);
  } finally {
    process.umask(umask);
  }
}

const users = [
  "root:x:0:0:root:/root:/bin/sh",
  "nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin",
  "www-data:x:33:33:www-data:/var/www:/usr/sbin/nologin",
  "redis:x:110:110::/var/lib/redis:/usr/sbin/nologin",
  "mosquitto:x:111:65534::/nonexistent:/usr/sbin/nologin",
  "memcache:x:112:65534::/nonexistent:/usr/sbin/nologin",
  "messagebus:x:113:113::/nonexistent:/usr/sbin/nologin",
  "systemd-network:x:998:998::/:/usr/sbin/nologin",
];
const groups = [
  ..."root:0 tty:5 disk:6 kmem:15 dialout:20 cdrom:24 floppy:25 tape:26 audio:29 www-data:33 video:44 sgx:107 kvm:108".split(
    " ",
  ),
  ..."redis:110 messagebus:113 render:106 input:105 utmp:43 shadow:42 adm:4 nogroup:65534 systemd-journal:997 systemd-network:998".split(
    " ",
  ),
];

/** What the packages' own scripts would have done, as far as it is needed here. */
async function finish(architecture: LabArchitecture, tree: string): Promise<void> {
  const write = (path: string, text: string): Promise<void> => writeFile(join(tree, path), text);
  await write("etc/passwd", `${users.join("\n")}\n`);
  await write("etc/group", `${groups.map((item) => item.replace(":", ":x:")).join(":\n")}:\n`);
  await write("etc/shadow", "root::19000::::::\n");
  await write("etc/machine-id", "0123456789abcdef0123456789abcdef\n");
  await write("etc/hostname", "guest\n");
  await write("etc/nsswitch.conf", "passwd: files\ngroup: files\nhosts: files\n");
  await write("etc/fstab", "");
  await mkdir(join(tree, "etc/systemd/network"), { recursive: true });
  const network = "[Match]\nType=ether\n[Network]\nAddress=192.168.77.2/24\nLinkLocalAddressing=no\nIPv6AcceptRA=no\n";
  await write("etc/systemd/network/10-lab.network", network);
  for (const path of ["var/lib/redis", "var/log/redis"]) {
    await mkdir(join(tree, path), { recursive: true });
    await chown(join(tree, path), 110, 110);
  }
  for (const path of ["var/log/nginx", "lab"]) await mkdir(join(tree, path), { recursive: true });
  await setUpServices(tree);
  const release = (await readdir(join(tree, "lib/modules")))[0]!;
  await pruneModules(tree, release, [...wantedModules, ...kvmModules[architecture]]);
  for (const path of [
    "usr/share/doc",
    "usr/share/locale",
    "usr/share/man",
    "usr/lib/locale",
    `boot/System.map-${release}`,
  ]) {
    await rm(join(tree, path), { recursive: true, force: true });
  }
}

async function setUpServices(tree: string): Promise<void> {
  // The guest's redis serves the network of the lab, and takes the commands that crash it.
  const settings = 'bind * -::*\nprotected-mode no\nenable-debug-command yes\nsave ""\n';
  await mkdir(join(tree, "etc/redis"), { recursive: true });
  await appendFile(join(tree, "etc/redis/redis.conf"), settings);
  for (const path of ["etc/redis", "etc/redis/redis.conf"]) await chown(join(tree, path), 110, 110);
  await mkdir(join(tree, "etc/nginx/sites-enabled"), { recursive: true });
  const site = "server { listen 80; location / { return 200 'served\\n'; } }\n";
  await writeFile(join(tree, "etc/nginx/sites-enabled/default"), site);
  const enable = async (unit: string, target: string, home = "/lib/systemd/system"): Promise<void> => {
    const wants = join(tree, `etc/systemd/system/${target}.wants`);
    await mkdir(wants, { recursive: true });
    await rm(join(wants, unit), { force: true });
    await symlink(`${home}/${unit}`, join(wants, unit));
  };
  for (const unit of ["redis-server.service", "nginx.service", "systemd-networkd.service"]) {
    await enable(unit, "multi-user.target");
  }
  const units = join(tree, "etc/systemd/system");
  for (const unit of guestKitUnits) await cp(join(guestKit, unit), join(units, unit));
  for (const unit of guestKitSockets) await enable(unit, "sockets.target", "/etc/systemd/system");
  // Whoever has its serial port is root in it: how the lab makes its kernel panic. There is no PAM to log in by.
  const shell =
    "[Service]\nExecStart=\nExecStart=-/bin/sh -i\nStandardInput=tty\nStandardOutput=tty\nStandardError=tty\n";
  await mkdir(join(units, "serial-getty@.service.d"), { recursive: true });
  await writeFile(join(units, "serial-getty@.service.d/shell.conf"), shell);
  // Its serial line may be found later than systemd waits for a device.
  await mkdir(join(tree, "etc/systemd/system.conf.d"), { recursive: true });
  await writeFile(join(tree, "etc/systemd/system.conf.d/slow.conf"), "[Manager]\nDefaultDeviceTimeoutSec=1200\n");
  for (const unit of [
    "systemd-timesyncd.service",
    "apt-daily.timer",
    "apt-daily-upgrade.timer",
    "e2scrub_all.timer",
    "getty-static.service",
  ]) {
    await rm(join(units, unit), { force: true });
    await symlink("/dev/null", join(units, unit));
  }
}

/** Keeps only what is needed: 390 MB of modules become a few. */
async function pruneModules(tree: string, release: string, names: readonly string[]): Promise<void> {
  await run(["depmod", "-b", tree, release]);
  const kept = await closure(tree, release, names);
  const folder = join(tree, `lib/modules/${release}`);
  const draft = `${folder}.kept`;
  for (const path of kept) await cp(path, path.replace(folder, draft), { recursive: true });
  for (const file of ["modules.builtin", "modules.builtin.modinfo", "modules.order"]) {
    if (existsSync(join(folder, file))) await cp(join(folder, file), join(draft, file));
  }
  await rm(folder, { recursive: true });
  await rename(draft, folder);
  await run(["depmod", "-b", tree, release]);
}

/** Files of these modules and all they need, in the order of loading; those built into the kernel are none. */
async function closure(tree: string, release: string, names: readonly string[]): Promise<string[]> {
  const paths = new Set<string>();
  for (const name of names) {
    const text = await run(["modprobe", "-d", tree, "-S", release, "--show-depends", name]).catch(() => "");
    for (const match of text.matchAll(/^insmod (\S+)/gm)) paths.add(match[1]!);
  }
  return [...paths];
}
