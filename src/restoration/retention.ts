// SPDX-License-Identifier: Apache-2.0
/**
 * Which checkpoints of a guest are kept. Gets all of them and the rules; gives the ids of those that may go. Pure.
 *
 * Kept always: pinned ones, the newest, the newest good one. Beside them the newest, one about an hour old and one about a
 * day old, up to `count`; nothing older than `ageMsMax`; and no more than `bytesMax`, the oldest going first.
 */

export type Keep = { readonly count: number; readonly ageMsMax: number; readonly bytesMax: number };
export type Kept = {
  readonly id: string;
  readonly atMs: number;
  readonly good: boolean;
  readonly pinned: boolean;
  readonly bad: boolean;
  /** What it alone added, from its head; what it shares costs nothing. */
  readonly bytes: number;
};

const hourMs = 3_600_000;
/** About how old the kept ones are meant to be, beside the newest. */
const agesMs = [hourMs, 24 * hourMs];

/** `own`: all checkpoints of one guest, newest first. */
export function superfluous(own: readonly Kept[], keep: Keep, nowMs: number): string[] {
  const usable = own.filter(({ bad }) => !bad);
  const protectedIds = new Set(
    [...own.filter(({ pinned }) => pinned), usable[0], usable.find(({ good }) => good)]
      .filter((item) => item !== undefined)
      .map(({ id }) => id),
  );
  const wanted = new Set(protectedIds);
  const young = usable.filter(({ atMs }) => nowMs - atMs <= keep.ageMsMax);
  for (const ageMs of agesMs) {
    const nearest = closest(young, nowMs - ageMs);
    if (nearest !== undefined && wanted.size < Math.max(keep.count, protectedIds.size)) wanted.add(nearest.id);
  }
  for (const { id } of young) if (wanted.size < keep.count) wanted.add(id);
  return own.filter(({ id }) => !fits(id, own, wanted, protectedIds, keep.bytesMax)).map(({ id }) => id);
}

/** Newest first until the bytes are used up; those that are protected always fit. */
function fits(
  id: string,
  own: readonly Kept[],
  wanted: ReadonlySet<string>,
  protectedIds: ReadonlySet<string>,
  bytesMax: number,
): boolean {
  if (protectedIds.has(id)) return true;
  if (!wanted.has(id)) return false;
  const newer = own.slice(0, own.findIndex((each) => each.id === id) + 1).filter((each) => wanted.has(each.id));
  return newer.reduce((sum, { bytes }) => sum + bytes, 0) <= bytesMax;
}

function closest(own: readonly Kept[], atMs: number): Kept | undefined {
  return own.reduce<Kept | undefined>(
    (best, each) => (best === undefined || Math.abs(each.atMs - atMs) < Math.abs(best.atMs - atMs) ? each : best),
    undefined,
  );
}
