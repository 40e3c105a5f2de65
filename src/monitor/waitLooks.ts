// SPDX-License-Identifier: Apache-2.0
/**
 * How often a program's threads are looked at to learn how each of them waits. Gets the looks; gives nothing, until the
 * signal aborts. Never rejects.
 *
 * Eagerly while some thread is not known; then by a slow beat, and hardly at all while nobody was made on this machine:
 * nobody can be new then. Threads that end make no news, so that the threads are counted once a second all the same.
 */
import { type Clock, sleepToBeat } from "#clock.ts";
import { ProcessNews } from "./processNews.ts";

const eagerLookMs = 10;
/** Between two looks for new threads. */
const newcomerLookMs = 500;
/** Every so many looks of that kind, threads are counted. */
const countEvery = 2;
/** Every so many, all threads are looked at. */
const fullLookEvery = 10;
/** Looks at a program that never waits before the eager ones end: after that the slow ones must do. */
const eagerLooksMax = 1000;

/** Each is true while some thread's way of waiting is not known. */
export type WaitLooks = {
  /** Looks at every thread. */
  readonly all: () => boolean;
  /** Counts the threads, and looks at those that are not known. */
  readonly unknown: () => boolean;
  /** Whether it is still to be learned what some thread waits on. Costs little where none ever is. */
  readonly isLacking: () => boolean;
};

export async function lookForWaits(looks: WaitLooks, clock: Clock, signal: AbortSignal): Promise<void> {
  const news = new ProcessNews(clock);
  let isUnknown = true;
  for (let look = 0; !signal.aborted; look += 1) {
    const isNews = news.any();
    if (look % fullLookEvery === 0) isUnknown = looks.all();
    else if (isNews || isUnknown || look % countEvery === 0 || looks.isLacking()) isUnknown = looks.unknown();
    const isEager = isUnknown && look < eagerLooksMax;
    await sleepToBeat(clock, isEager ? eagerLookMs : newcomerLookMs, signal).catch(() => {});
  }
}
