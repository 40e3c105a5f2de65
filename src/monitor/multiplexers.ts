// SPDX-License-Identifier: Apache-2.0
/**
 * Which connections belong to other threads: those that only their multiplexers watch. Gets a process and the multiplexers
 * of its threads; gives descriptors. Stops nothing, and says nothing of a connection that no multiplexer watches: it may be
 * the very one that is being served.
 *
 * Limit: `othersMax` multiplexers are read. Source: proc(5), `/proc/PID/fdinfo`, `tfd` lines of epoll descriptors.
 */
import { readFileSync } from "node:fs";

const othersMax = 32;
const none: ReadonlySet<number> = new Set();

export function watchedElsewhere(
  pid: number,
  { own, others }: { readonly own: number | null; readonly others: readonly number[] },
): ReadonlySet<number> {
  if (own === null || others.length === 0) return none;
  const mine = watchedBy(pid, own);
  if (mine === null) return none;
  const found = new Set<number>();
  for (const other of others.slice(0, othersMax))
    for (const fd of watchedBy(pid, other) ?? []) if (!mine.has(fd)) found.add(fd);
  return found;
}

function watchedBy(pid: number, multiplexer: number): ReadonlySet<number> | null {
  try {
    return watchedIn(readFileSync(`/proc/${pid}/fdinfo/${multiplexer}`, "latin1"));
  } catch {
    return null; // Closed since, or not to be read: then nothing is said.
  }
}

/** The descriptors that an epoll descriptor's text in /proc names. Pure. */
export function watchedIn(text: string): ReadonlySet<number> {
  return new Set([...text.matchAll(/^tfd:\s*(\d+)\s/gm)].map(([, fd]) => Number(fd)));
}
