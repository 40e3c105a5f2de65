// SPDX-License-Identifier: Apache-2.0
/**
 * Writes an initial RAM disk (cpio, format newc). Gets files, folders and links; gives bytes, the same for the same input.
 *
 * Source: the kernel's Documentation/driver-api/early-userspace/buffer-format.rst.
 */

export type CpioEntry =
  | { readonly kind: "file"; readonly path: string; readonly mode: number; readonly bytes: Uint8Array }
  | { readonly kind: "folder"; readonly path: string }
  | { readonly kind: "link"; readonly path: string; readonly target: string }
  | { readonly kind: "device"; readonly path: string; readonly major: number; readonly minor: number };

const types = { file: 0o100000, folder: 0o040000, link: 0o120000, device: 0o020000 } as const;

export function writeCpio(entries: readonly CpioEntry[]): Uint8Array {
  const parts: Uint8Array[] = [];
  for (const [index, entry] of entries.entries()) parts.push(...record(entry, index + 1));
  parts.push(...record({ kind: "file", path: "TRAILER!!!", mode: 0, bytes: new Uint8Array() }, 0));
  return Buffer.concat(parts);
}

function record(entry: CpioEntry, inode: number): Uint8Array[] {
  const bytes =
    entry.kind === "file" ? entry.bytes : entry.kind === "link" ? Buffer.from(entry.target) : new Uint8Array();
  const mode = types[entry.kind] | (entry.kind === "file" ? entry.mode : 0o755);
  const [major, minor] = entry.kind === "device" ? [entry.major, entry.minor] : [0, 0];
  const name = Buffer.from(`${entry.path}\0`);
  const numbers = [inode, mode, 0, 0, 1, 0, bytes.length, 0, 0, major, minor, name.length, 0];
  const head = Buffer.from(`070701${numbers.map((number) => number.toString(16).padStart(8, "0")).join("")}`);
  return [head, name, padding(head.length + name.length), bytes, padding(bytes.length)];
}

const padding = (length: number): Uint8Array => new Uint8Array((4 - (length % 4)) % 4);
