// SPDX-License-Identifier: Apache-2.0
/**
 * Which connections belong to other threads: those that only their multiplexers watch. Gets a process and the multiplexers
 * of its threads; gives descriptors. Stops nothing, and says nothing of a connection that no multiplexer watches: it may be
 * the very one that is being served.
 *
 * Limit: `othersMax` multiplexers are read.
 */
import { readInterest, type Watched } from "./interestList.ts";

export const othersMax = 32;
const none: ReadonlySet<number> = new Set();

export function watchedElsewhere(
  pid: number,
  { own, others }: { readonly own: number | null; readonly others: readonly number[] },
): ReadonlySet<number> {
  if (own === null || others.length === 0) return none;
  return watchedByOthers(
    readInterest(pid, own),
    others.slice(0, othersMax).map((other) => readInterest(pid, other)),
  );
}

type Interest = readonly Watched[] | null;

/** From what the multiplexers watch; null for one that cannot be read: without a thread's own, nothing is said. Pure. */
export function watchedByOthers(own: Interest, others: readonly Interest[]): ReadonlySet<number> {
  if (own === null) return none;
  const mine = new Set(own.map(({ fd }) => fd));
  return new Set(others.flatMap((list) => (list ?? []).map(({ fd }) => fd)).filter((fd) => !mine.has(fd)));
}
