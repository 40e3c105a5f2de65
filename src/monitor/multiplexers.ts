// SPDX-License-Identifier: Apache-2.0
/**
 * Which connections belong to other threads: those that only their multiplexers watch. Gets a process and the multiplexers
 * of its threads; gives descriptors. Stops nothing, and says nothing of a connection that no multiplexer watches: it may be
 * the very one that is being served.
 *
 * Limit: `othersMax` multiplexers are read.
 */
import { readInterest } from "./interestList.ts";

const othersMax = 32;
const none: ReadonlySet<number> = new Set();

export function watchedElsewhere(
  pid: number,
  { own, others }: { readonly own: number | null; readonly others: readonly number[] },
): ReadonlySet<number> {
  if (own === null || others.length === 0) return none;
  const list = readInterest(pid, own);
  if (list === null) return none;
  const mine = new Set(list.map(({ fd }) => fd));
  const found = new Set<number>();
  for (const other of others.slice(0, othersMax))
    for (const { fd } of readInterest(pid, other) ?? []) if (!mine.has(fd)) found.add(fd);
  return found;
}
