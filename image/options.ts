// SPDX-License-Identifier: Apache-2.0
/**
 * The words of `image/build`: what may be said, what it means, and what this machine lacks to do it.
 */
import { join, resolve } from "node:path";
import { parseArgs } from "node:util";
import { ImageError } from "./commands.ts";
import type { LockUse } from "./lock.ts";
import type { ImageArchitecture } from "./packages.ts";
import type { Archive } from "./tools.ts";

export const usage = `usage: image/build [--arch arm64|x86_64] [--out DIR] [--version TEXT] [--no-pack] [--no-bundle]
                   [--hypervisor FILE --hypervisor-sha256 SUM [--hypervisor-dynamic]] [--bun FILE] [--cache DIR]
                   [--device-tree VENDOR/NAME.dtb] [--firmware FILE@BYTES]…
                   [--sign-key PEM --sign-certificate PEM] [--mirror ADDRESS] [--lock follow|obey|write]

  Builds DIR/holdfast-VERSION-ARCH.img (default: arm64, into .cache/image/out of this checkout), packed (.zst), with its block
  map, list of components (SPDX), update bundle and sums. Try it with image/run FILE, write it to a card with image/flash FILE DEVICE.
  --hypervisor: a static Cloud Hypervisor of that architecture, for guests; its SHA-256 must be the one given.
  --hypervisor-dynamic: it may need glibc; then its seccomp filter only logs. For tries.
  --device-tree: of Debian's kernel, for a board whose firmware hands over none (as rockchip/rk3588-rock-5b.dtb).
  --firmware: the vendor's boot firmware, written at that place before the first partition (16 MiB).
  --sign-key: signs the update bundle; the box takes updates of that certificate only. Left out: a test key.
  --lock: packages that are not those of image/lock are told (follow), refused (obey), or become the lock (write).
  --mirror: another archive of Debian, such as one of snapshots.
  --bun: the runtime of that architecture, otherwise got through npm. Needs root and mmdebstrap
  (apt-get install mmdebstrap); about 3 GB of disk, a few minutes the first time, then about one.`;

/** A file of the board's vendor, and where on the disk it belongs. */
export type Firmware = { readonly file: string; readonly atBytes: number };

/** Who signs updates, and whom the box believes. PEM files. */
export type Keys = { readonly key: string; readonly certificate: string };

/** `mayBeDynamic`: for tries. Such a build runs with a seccomp filter that only logs: glibc's calls are not in its list. */
export type Hypervisor = { readonly file: string; readonly sha256: string; readonly mayBeDynamic: boolean };

export type BuildOptions = {
  readonly architecture: ImageArchitecture;
  readonly out: string;
  readonly cache: string;
  readonly version: string | null;
  readonly bun: string | null;
  readonly hypervisor: Hypervisor | null;
  readonly packs: boolean;
  /** Whether an update bundle is made, which needs the right to mount /proc. */
  readonly bundles: boolean;
  readonly deviceTree: string | null;
  readonly firmware: readonly Firmware[];
  /** null: keys for trying. */
  readonly keys: Keys | null;
  readonly archive: Archive;
};

/** null: help was asked for. @throws ImageError image.input */
export function readOptions(words: string[], top: string): BuildOptions | null {
  const { values } = parseArgs({
    args: words,
    allowNegative: true,
    options: {
      arch: { type: "string", default: "arm64" },
      out: { type: "string" },
      cache: { type: "string", default: join(top, ".cache/image") },
      version: { type: "string" },
      bun: { type: "string" },
      hypervisor: { type: "string" },
      "hypervisor-sha256": { type: "string" },
      "hypervisor-dynamic": { type: "boolean", default: false },
      "device-tree": { type: "string" },
      "sign-key": { type: "string" },
      "sign-certificate": { type: "string" },
      mirror: { type: "string" },
      lock: { type: "string", default: "follow" },
      firmware: { type: "string", multiple: true, default: [] },
      bundle: { type: "boolean", default: true },
      pack: { type: "boolean", default: true },
      help: { type: "boolean", short: "h" },
    },
  });
  if (values.help === true) return null;
  if (values.arch !== "arm64" && values.arch !== "x86_64") {
    throw new ImageError("image.input", `--arch wants arm64 or x86_64, not ${values.arch}`);
  }
  if (values.version !== undefined && !/^[A-Za-z0-9][A-Za-z0-9.+-]{0,63}$/.test(values.version)) {
    throw new ImageError("image.input", "--version wants letters, digits, dots, dashes and plus signs, at most 64");
  }
  const cache = resolve(values.cache);
  return {
    architecture: values.arch,
    out: values.out === undefined ? join(cache, "out") : resolve(values.out),
    cache,
    version: values.version ?? null,
    bun: values.bun === undefined ? null : resolve(values.bun),
    hypervisor: hypervisorOf(values.hypervisor, values["hypervisor-sha256"], values["hypervisor-dynamic"]),
    packs: values.pack,
    bundles: values.bundle,
    deviceTree: deviceTreeOf(values["device-tree"]),
    firmware: values.firmware.map(firmwareOf),
    archive: { mirror: values.mirror ?? null, lock: lockUseOf(values.lock) },
    keys: keysOf(values["sign-key"], values["sign-certificate"]),
  };
}

function hypervisorOf(file: string | undefined, sha256: string | undefined, mayBeDynamic: boolean): Hypervisor | null {
  if (file === undefined && sha256 === undefined) return null;
  if (file === undefined || sha256 === undefined || !/^[0-9a-f]{64}$/.test(sha256)) {
    throw new ImageError("image.input", "--hypervisor FILE wants --hypervisor-sha256 with its 64 hexadecimal digits");
  }
  return { file: resolve(file), sha256, mayBeDynamic };
}

function deviceTreeOf(text: string | undefined): string | null {
  if (text === undefined) return null;
  if (/^[\w-]+\/[\w.-]+\.dtb$/.test(text)) return text;
  throw new ImageError("image.input", `--device-tree wants VENDOR/NAME.dtb, not ${text}`);
}

function firmwareOf(text: string): Firmware {
  const [, file, at] = /^(.+)@(\d+)$/.exec(text) ?? [];
  const atBytes = Number(at);
  // The disk's own table fills the first 17 KiB.
  if (file === undefined || !Number.isSafeInteger(atBytes) || atBytes < firmwareLeast) {
    throw new ImageError("image.input", `--firmware wants FILE@BYTES, from byte ${firmwareLeast} on, not ${text}`);
  }
  return { file: resolve(file), atBytes };
}

function lockUseOf(text: string): LockUse {
  if (text === "follow" || text === "obey" || text === "write") return text;
  throw new ImageError("image.input", `--lock wants follow, obey or write, not ${text}`);
}

function keysOf(key: string | undefined, certificate: string | undefined): Keys | null {
  if (key === undefined && certificate === undefined) return null;
  if (key === undefined || certificate === undefined) {
    throw new ImageError("image.input", "--sign-key and --sign-certificate belong together");
  }
  return { key: resolve(key), certificate: resolve(certificate) };
}

const firmwareLeast = 17 * 1_024;
const neededPrograms = { mmdebstrap: "mmdebstrap", chroot: "coreutils", git: "git", npm: "npm", zstd: "zstd" };

/** @throws ImageError image.missing with all that is missing and the package of each */
export function checkMachine(options: BuildOptions): void {
  const lacks: string[] = [];
  if (process.getuid?.() !== 0) lacks.push("root (run it with sudo): Debian packages are unpacked with their owners");
  for (const [program, name] of Object.entries(neededPrograms)) {
    if (program === "npm" && options.bun !== null) continue;
    if (program === "zstd" && !options.packs) continue;
    if (Bun.which(program, { PATH: `${process.env.PATH ?? ""}:/usr/sbin:/sbin` }) === null) {
      lacks.push(`${program} (apt-get install ${name})`);
    }
  }
  if (lacks.length > 0) throw new ImageError("image.missing", `missing: ${lacks.join("; ")}`);
}
