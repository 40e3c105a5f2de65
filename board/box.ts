// SPDX-License-Identifier: Apache-2.0
/**
 * A look at the machine we run on: files, devices, programs, space. Gets paths and names; gives values, never throws.
 *
 * Absent and forbidden are answers here, not errors: whoever asks wants to know just that. Reads block, and are small
 * (proc and sys files). Tests hand in a box of their own.
 */
import { accessSync, closeSync, constants, existsSync, openSync, readdirSync, readFileSync, statfsSync } from "node:fs";
import { dirname } from "node:path";

/** `ok`, or the name of the error (ENOENT, EACCES, …). */
export type Access = "ok" | (string & {});

export type Space = { readonly totalBytes: number; readonly freeBytes: number; readonly inMemory: boolean };

export interface Box {
  /** As node names it: x64, arm64, … */
  readonly processor: string;
  readonly userId: number;
  readonly environment: Readonly<Record<string, string | undefined>>;
  /** Text of a small file without surrounding space; null where it cannot be read. */
  text(path: string): string | null;
  exists(path: string): boolean;
  /** Names in a folder; none where there is no such folder. */
  names(path: string): readonly string[];
  /** Opens a device for reading and writing, and closes it. */
  open(path: string): Access;
  /** Whether files can be made in this folder, or in the nearest one above it that exists. */
  writable(path: string): Access;
  /** Space of the file system that holds this path, or will. */
  space(path: string): Space | null;
  /** Full path of a program, also of those only root has on its PATH. */
  find(program: string): string | null;
  /** First line that `program --version` prints; null where it does not run. */
  versionOf(program: string): string | null;
}

const tmpfsMagic = 0x01021994;
const ramfsMagic = 0x858458f6;
const versionTimeoutMs = 5_000;

export const systemBox: Box = {
  processor: process.arch,
  userId: process.getuid?.() ?? 0,
  environment: process.env,
  text: (path) => attempt(() => readFileSync(path, "utf8").trim(), null),
  exists: existsSync,
  names: (path) => attempt(() => readdirSync(path), []),
  open: (path) => access(() => closeSync(openSync(path, constants.O_RDWR | constants.O_NONBLOCK))),
  writable: (path) => access(() => accessSync(nearest(path), constants.W_OK | constants.X_OK)),
  space: (path) => attempt(() => spaceOf(nearest(path)), null),
  find: (program) => Bun.which(program, { PATH: `${process.env.PATH ?? ""}:/usr/local/sbin:/usr/sbin:/sbin` }),
  versionOf: (program) => attempt(() => firstLine(program), null),
};

function attempt<Value>(read: () => Value, otherwise: Value): Value {
  try {
    return read();
  } catch {
    return otherwise;
  }
}

function access(use: () => void): Access {
  try {
    use();
    return "ok";
  } catch (error) {
    return (error as NodeJS.ErrnoException).code ?? String(error);
  }
}

/** The path itself, or the nearest folder above it that exists. */
function nearest(path: string): string {
  let at = path;
  while (!existsSync(at) && dirname(at) !== at) at = dirname(at);
  return at;
}

function spaceOf(path: string): Space {
  const { blocks, bavail, bsize, type } = statfsSync(path);
  return {
    totalBytes: blocks * bsize,
    freeBytes: bavail * bsize,
    inMemory: type === tmpfsMagic || type >>> 0 === ramfsMagic,
  };
}

function firstLine(program: string): string | null {
  const ran = Bun.spawnSync([program, "--version"], { stdin: "ignore", timeout: versionTimeoutMs });
  return ran.success ? (ran.stdout.toString().split("\n")[0]?.trim() ?? null) : null;
}
