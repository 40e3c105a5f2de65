// SPDX-License-Identifier: Apache-2.0
/**
 * A program's file, kept open, of which only the pages that are asked for are read. Gets a path; gives bytes for `parseElf`.
 *
 * Read, not mapped: a mapped file that somebody cuts short would end this process (SIGBUS). Kept open, since its name may
 * be given to another file while programs still run this one; closed once nobody can read it any more.
 */
import { closeSync, openSync, readSync } from "node:fs";
import { PagedBytes } from "#binary/fileBytes.ts";

const unreachable = new FinalizationRegistry<number>((descriptor) => closeSync(descriptor));

/** null where it cannot be opened. */
export function openCodeFile(path: string, lengthBytes: number): PagedBytes | null {
  let descriptor: number;
  try {
    descriptor = openSync(path, "r");
  } catch {
    return null; // Gone meanwhile: its code counts as unknown.
  }
  const bytes = new PagedBytes(lengthBytes, (position, wanted) => readAt(descriptor, position, wanted));
  unreachable.register(bytes, descriptor);
  return bytes;
}

/** Short where the file was cut meanwhile, null where its disk gives it no more. */
function readAt(descriptor: number, position: number, wanted: number): Uint8Array | null {
  const bytes = new Uint8Array(wanted);
  try {
    return bytes.subarray(0, readSync(descriptor, bytes, 0, wanted, position));
  } catch {
    return null;
  }
}
