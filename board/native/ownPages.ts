// SPDX-License-Identifier: Apache-2.0
/**
 * Gives back the pages of our own program file and libraries that this process has mapped: code that only a start needs
 * is most of what a runtime keeps resident. What is still needed comes back from the page cache at its next use, at some
 * microseconds for 64 KiB.
 *
 * Only mappings that are not writable and hold no page of our own (no relocation, no breakpoint): nothing can be lost.
 * Source: madvise(2), MADV_DONTNEED; proc(5), smaps.
 */

import { FFIType } from "bun:ffi";
import { readFileSync } from "node:fs";
import { openLibc } from "./libc.ts";

const libc = openLibc({ madvise: { args: [FFIType.u64, FFIType.u64, FFIType.i32], returns: FFIType.i32 } });
const dontNeed = 4;
const head = /^([0-9a-f]+)-([0-9a-f]+) (\S{4}) \S+ \S+ \S+ +(\/.*)$/;

export type CleanMapping = { readonly start: bigint; readonly lengthBytes: bigint };

/** Mappings of files that can be given back, of `/proc/self/smaps`. */
export function cleanMappings(smaps: string): CleanMapping[] {
  const found: CleanMapping[] = [];
  let open: CleanMapping | null = null;
  for (const line of smaps.split("\n")) {
    const match = head.exec(line);
    if (match !== null || /^[0-9a-f]+-/.test(line)) open = match === null ? null : mappingOf(match);
    else if (line.startsWith("Anonymous:") && open !== null && Number(line.split(/ +/)[1]) === 0) found.push(open);
  }
  return found;
}

/** Gives how many bytes of mappings were given back; 0 where the kernel does not tell. */
export function giveBackOwnPages(): number {
  let smaps: string;
  try {
    smaps = readFileSync("/proc/self/smaps", "latin1");
  } catch {
    return 0; // No proc, no harm: the pages stay.
  }
  let bytes = 0;
  for (const { start, lengthBytes } of cleanMappings(smaps)) {
    if (libc.madvise(start, lengthBytes, dontNeed) === 0) bytes += Number(lengthBytes);
  }
  return bytes;
}

function mappingOf([, from = "", to = "", permissions = ""]: RegExpExecArray): CleanMapping | null {
  if (permissions[1] === "w") return null;
  const start = BigInt(`0x${from}`);
  return { start, lengthBytes: BigInt(`0x${to}`) - start };
}
