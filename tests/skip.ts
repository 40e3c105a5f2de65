// SPDX-License-Identifier: Apache-2.0
/**
 * Tests that need something of the machine. `need("redis-server")("name", body)` is `test("name", body)` where it is
 * there; where it is not, the test is skipped and its name says what is missing and how to get it.
 *
 * The reason travels in the name as ` [needs …]`, so every reporter shows it; scripts/test lists the reasons at its end.
 * This is the only place that may skip a test (tidy rule silent-skip).
 */

import { test } from "bun:test";
import { accessSync, constants, existsSync, readFileSync } from "node:fs";
import { forms, formVariable, type LongKind } from "#scripts/suite/forms.ts";
import { withReason } from "#scripts/suite/tally.ts";

/** Something a test cannot do without: null where it is there, else the reason and what to do about it. */
export type Need = () => string | null;

export type NeededTest = (name: string, body: (() => void) | (() => Promise<unknown>), timeoutMs?: number) => void;

/** Debian package of each program that tests look for, where its name is another. */
const packages: Readonly<Record<string, string>> = {
  mariadbd: "mariadb-server",
  "mariadb-slap": "mariadb-client",
  readelf: "binutils",
  promtool: "prometheus",
  "grub-editenv": "grub-common",
  mksquashfs: "squashfs-tools",
  unsquashfs: "squashfs-tools",
  debugfs: "e2fsprogs",
  nm: "binutils",
  psql: "postgresql-client",
  go: "golang-go",
  node: "nodejs",
  "/usr/bin/python3": "python3",
  "redis-cli": "redis-tools",
  mosquitto_pub: "mosquitto-clients",
  "aarch64-linux-gnu-gcc": "gcc-aarch64-linux-gnu",
  "qemu-aarch64-static": "qemu-user-static",
  nbdfuse: "libnbd-bin",
  mcopy: "mtools",
  losetup: "mount",
  "mkfs.ext4": "e2fsprogs",
  "mkfs.xfs": "xfsprogs",
};

/** Where daemons live that an ordinary user's PATH leaves out. */
const searchPath = `${process.env.PATH ?? ""}:/usr/local/sbin:/usr/sbin:/sbin`;

/** Full path of a program, or null. */
export const programPath = (name: string): string | null => Bun.which(name, { PATH: searchPath });

const program =
  (name: string): Need =>
  () =>
    programPath(name) === null ? `${name}: apt-get install ${packages[name] ?? name}` : null;

/** The test runs as root. */
export const root: Need = () => (process.getuid?.() === 0 ? null : "root: run ./scripts/test as root");

/** The test may trace processes that it did not start. */
export const tracing: Need = () => {
  if (process.getuid?.() === 0) return null;
  const file = "/proc/sys/kernel/yama/ptrace_scope";
  const scope = existsSync(file) ? readFileSync(file, "utf8").trim() : "0";
  return scope === "0" ? null : "ptrace: run as root, or sysctl kernel.yama.ptrace_scope=0";
};

/** Something that is there by its path, and how to get it. */
export const file =
  (path: string, advice: string): Need =>
  () =>
    existsSync(path) ? null : `${path}: ${advice}`;

/** A device that can be opened for reading and writing. */
export const device =
  (path: string): Need =>
  () => {
    try {
      accessSync(path, constants.R_OK | constants.W_OK);
      return null;
    } catch {
      return `${path}: absent here, or not ours to open`;
    }
  };

/** A machine of this kind (`x64` or `arm64`). */
export const processor =
  (kind: "x64" | "arm64"): Need =>
  () =>
    process.arch === kind ? null : `an ${kind} machine`;

/** What is missing for one need, or null. */
export const missing = (item: string | Need): string | null => (typeof item === "string" ? program(item)() : item());

/** `test`, or a skip that says why, for tests that need all of these: names of programs, or needs. */
export function need(...needs: readonly (string | Need)[]): NeededTest {
  const reasons = needs.map(missing).filter((item) => item !== null);
  if (reasons.length === 0) return test;
  return (name, body) => test.skip(withReason(name, reasons.join("; ")), body);
}

/** Whether tests of this kind run at length now: `./scripts/test full`, or the form of that name. */
export const long = (kind: LongKind): boolean =>
  forms[process.env[formVariable] ?? "default"]?.long.includes(kind) === true;
