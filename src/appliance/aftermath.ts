// SPDX-License-Identifier: Apache-2.0
/**
 * What an act has left behind in a program: whether a new fault comes of it, and whom that costs a request. Pure.
 *
 * Gets a report or a trial, and the trials remembered; gives whether it is a consequence, and how many clients paid for it.
 * A site is one of consequences where it faulted first within `spreadMs` of an act at another site that was not (yet)
 * found clean, on any thread: the data that it worked on may be the same. Those who pay are clients that were connected before; one that
 * comes later may have come to kill.
 */
import type { FaultReport, PastTrial } from "#fault.ts";

const spreadMs = 5_000;
/** A site that has been quiet for so long is a new one. */
const quietMs = 60_000;
const knownConfidence = 0.5;
/** Faults that nobody is blamed for count where they come in a storm: a client that comes to kill takes longer for each. */
const worksMax = 4;
const stormMs = 1_000;

export function isConsequence(report: FaultReport, trials: readonly PastTrial[]): boolean {
  const earlier = trials.findLast((past) => isHere(past, report) && past.atMs >= report.atMs - quietMs);
  if (earlier !== undefined) return earlier.consequence === true;
  return trials.some(
    (past) =>
      !isHere(past, report) &&
      past.interrupted !== true &&
      past.atMs >= report.atMs - spreadMs &&
      past.verdict !== "clean",
  );
}

/**
 * Clients that have lost a request at the site of a consequence: those that were connected before it faulted first, and
 * where the blame says little, pieces of work, once they are more in a short time than one client's would be.
 */
export function payers(trial: PastTrial, trials: readonly PastTrial[]): number {
  if (trial.consequence !== true) return 0;
  const here = [...trials, trial].filter(
    (past) => past.site.fault === trial.site.fault && past.atMs >= trial.atMs - quietMs,
  );
  const known = here.filter(isKnown);
  const peers = new Set(known.filter(({ veteran }) => veteran).map(({ session }) => session?.peer));
  const unknown = here.filter((past) => !known.includes(past));
  const storms = unknown.map(({ atMs }) => {
    const together = unknown.filter((past) => past.atMs <= atMs && past.atMs >= atMs - stormMs);
    return new Set(together.map(({ work }) => work)).size;
  });
  const works = Math.max(0, ...storms);
  return peers.size + (works > worksMax ? works : 0);
}

const isKnown = ({ session }: PastTrial): boolean => session !== null && session.confidence >= knownConfidence;
const isHere = (past: PastTrial, report: FaultReport): boolean => past.site.fault === report.site.fault;
