// SPDX-License-Identifier: Apache-2.0
/**
 * How long a restored guest waited for pages that it touched before they were there, as a histogram with the bounds of the
 * metric `restore_page_seconds`. Gets times; gives counts, and the bound below which a share of the waits lies.
 *
 * A wait runs from when we last saw that nothing was asked for, or took another request (one is under way at a time), so it is
 * never told too short by what we did meanwhile; the kernel's own way from the processor to Cloud Hypervisor and back is not in it. One writer, any number of readers.
 */
import { metricCatalogue } from "#metrics.ts";

const bounds: readonly number[] = metricCatalogue.restore_page_seconds.bounds ?? [];
/** One count for each bound, one for what is longer than all of them, and the sum in ns; 8 bytes each. */
const sumPlace = bounds.length + 1;
export const waitsBytes = (bounds.length + 2) * 8;

/** As a sample of the metric has it: `buckets` are cumulative. */
export type PageWaits = { readonly buckets: readonly number[]; readonly count: number; readonly sum: number };

/** `words`: as many as `waitsBytes`, zero at first. */
export function addWait(words: BigInt64Array, waitNs: number): void {
  const place = bounds.findIndex((bound) => waitNs <= bound * 1e9);
  words[place < 0 ? bounds.length : place]! += 1n;
  words[sumPlace]! += BigInt(Math.round(waitNs));
}

export function readWaits(words: BigInt64Array): PageWaits {
  let count = 0;
  const buckets = bounds.map((_, place) => {
    count += Number(words[place]);
    return count;
  });
  return { buckets, count: count + Number(words[bounds.length]), sum: Number(words[sumPlace]) / 1e9 };
}

/** Microseconds that this share of the waits took at most; null without any, or where it is longer than every bound. */
export function waitUsWithin({ buckets, count }: PageWaits, share: number): number | null {
  if (count === 0) return null;
  const bound = bounds[buckets.findIndex((within) => within >= share * count)];
  return bound === undefined ? null : Math.round(bound * 1e6);
}
