// SPDX-License-Identifier: Apache-2.0
/**
 * Clones a file on file systems that share blocks (XFS, Btrfs): at once, whatever its size. Gets two paths; gives the
 * time it took, or why it cannot be done here. Source: ioctl_ficlone(2), Linux 4.5.
 */
import { FFIType } from "bun:ffi";
import { closeSync, fsyncSync, openSync, rmSync } from "node:fs";
import { NativeError } from "#errors.ts";
import { errno, openLibc } from "./libc.ts";

const { i32, u64_fast: u64 } = FFIType;
const libc = openLibc({ ioctl: { args: [i32, u64, i32], returns: i32 } });
const ficlone = 0x4004_9409;
/** Not supported, other file system, bad file, not a terminal (tmpfs before Linux 6). */
const refusals: readonly number[] = [95, 18, 22, 25];

/** Makes `target`, which must not exist. @throws NativeError native.unsupported where this file system cannot */
export function cloneFile(source: string, target: string): void {
  const from = openSync(source, "r");
  try {
    const to = openSync(target, "wx", 0o600);
    try {
      if (libc.ioctl(to, ficlone, from) === 0) return;
      const code = errno();
      rmSync(target, { force: true });
      const known = refusals.includes(code);
      const why = known ? ": its file system shares no blocks (XFS and Btrfs do)" : "";
      throw new NativeError(known ? "native.unsupported" : "native.call", `cannot clone ${source}${why}`, {
        errno: code,
      });
    } finally {
      closeSync(to);
    }
  } finally {
    closeSync(from);
  }
}

/** Makes a file that was cloned survive a power cut. */
export function flushFile(path: string): void {
  const file = openSync(path, "r");
  try {
    fsyncSync(file);
  } finally {
    closeSync(file);
  }
}
