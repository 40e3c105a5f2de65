// SPDX-License-Identifier: Apache-2.0
/**
 * What a multiplexer watches. Gets an epoll descriptor of a process, or its text; gives what is on its interest list.
 * Source: proc(5), `/proc/PID/fdinfo`, `tfd` lines; other descriptors have none of them.
 */
import { readFileSync } from "node:fs";

/** A descriptor on the list, and the inode behind it, in decimal. */
export type Watched = { readonly fd: number; readonly inode: string };

/** null where it was closed since, or is not ours to read. */
export function readInterest(pid: number, multiplexer: number): readonly Watched[] | null {
  try {
    return interestIn(readFileSync(`/proc/${pid}/fdinfo/${multiplexer}`, "latin1"));
  } catch {
    return null;
  }
}

/** Pure. */
export const interestIn = (text: string): readonly Watched[] =>
  [...text.matchAll(/^tfd:\s*(\d+)\s.* ino:([0-9a-f]+)/gm)].map(([, fd, inode]) => ({
    fd: Number(fd),
    inode: String(Number.parseInt(inode!, 16)),
  }));
