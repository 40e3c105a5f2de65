// SPDX-License-Identifier: Apache-2.0
/**
 * Runs of an injection campaign in words and numbers: one line for people, a short record for the report, and totals.
 *
 * Gets runs; gives plain values. Pure. Records keep what is needed to find a cause: where it faulted, what was done about
 * it, who was harmed and how; at most `framesMax` frames and `fatesMax` fates each.
 */
import type { FaultEvent } from "#appliance/demo/guardEvents.ts";
import { rounded } from "../benchReport.ts";
import { median, wilsonInterval } from "../statistics.ts";
import { type Judgement, type Observation, runClasses } from "./classify.ts";
import type { FaultKind } from "./faultPlaces.ts";
import type { ServerName } from "./servers.ts";

export type Run = {
  readonly number: number;
  readonly server: ServerName;
  readonly mode: string;
  readonly kind: FaultKind;
  /** Offsets in the program's file. */
  readonly function: string;
  readonly place: string;
  readonly judgement: Judgement;
  readonly seen: Observation;
};

const framesMax = 12;
const fatesMax = 8;

export function lineOf({ number, server, mode, kind, place, judgement, seen }: Run): string {
  const acts = tally(seen.outcomes.map(({ rung, verdict }) => `${rung}:${verdict}`));
  const harm = tally(seen.fates.filter(({ fate }) => fate !== "right").map(({ fate }) => fate));
  const marks = `${judgement.survived ? "" : " NOT SURVIVED"}${judgement.falseVerdict ? " FALSE VERDICT" : ""}`;
  const counts = `${seen.injected} injected, ${seen.faults.length} faults, harmed ${harm || "nobody"}`;
  return `${server} ${number} ${mode} ${kind} ${place}: ${judgement.class}; ${counts}; ${acts}${marks}`;
}

/** What the report keeps of one run. */
export function recordOf(run: Run): Record<string, unknown> {
  const { seen, ...rest } = run;
  const harmed = seen.fates.filter(({ fate }) => fate !== "right");
  return {
    ...rest,
    injected: seen.injected,
    same: seen.same,
    goesOn: seen.goesOn,
    faults: seen.faults.map(faultInWords),
    outcomes: seen.outcomes.map(({ id, rung, verdict, session, stopUs }) => ({ id, rung, verdict, session, stopUs })),
    fates: harmed.slice(0, fatesMax),
    newcomers: seen.newcomers.length === 0 ? "not let in" : seen.newcomers.filter(({ fate }) => fate !== "right"),
  };
}

function faultInWords(fault: FaultEvent): Record<string, unknown> {
  const { action } = fault as FaultEvent & { action?: string };
  const frames = fault.frames
    .slice(0, framesMax)
    .map(({ module, offset, symbol }) => `${symbol ?? module?.split("/").at(-1) ?? "?"} ${offset}`);
  return { id: fault.id, signal: fault.signal, thread: fault.thread, site: fault.site, action, frames };
}

/** `a×3 b` for how often each word comes. */
function tally(words: readonly string[]): string {
  const counts = new Map<string, number>();
  for (const word of words) counts.set(word, (counts.get(word) ?? 0) + 1);
  return [...counts].map(([word, count]) => (count === 1 ? word : `${word}×${count}`)).join(" ");
}

function shareOf(count: number, total: number): string {
  const { low, high } = wilsonInterval(count, total);
  const percent = (share: number): number => rounded(share * 100);
  return `${count} of ${total} (${percent(total === 0 ? 0 : count / total)} %, ${percent(low)}–${percent(high)})`;
}

/** Shares with their 95 % intervals, classes that came up, and the counts that must be zero. */
export function totalsOf(runs: readonly Run[]): Record<string, unknown> {
  const count = (fits: (judgement: Judgement) => boolean): number => runs.filter((run) => fits(run.judgement)).length;
  const stopsUs = runs.flatMap((run) => run.seen.outcomes.map(({ stopUs }) => stopUs));
  const survivors = runs.filter((run) => run.judgement.survived);
  const classes = runClasses.map((name) => [name, count((judgement) => judgement.class === name)] as const);
  return {
    survived: shareOf(survivors.length, runs.length),
    strict: shareOf(
      count(({ strict }) => strict),
      runs.length,
    ),
    noWrongAnswer: shareOf(
      count(({ wrongAnswers }) => wrongAnswers === 0),
      runs.length,
    ),
    classes: Object.fromEntries(classes.filter(([, times]) => times > 0)),
    falseVerdicts: count(({ falseVerdict }) => falseVerdict),
    tooCareful: count(({ pessimistic }) => pessimistic),
    resetsInSurvivors: survivors.reduce((sum, run) => sum + run.judgement.resets, 0),
    injected: runs.reduce((sum, run) => sum + run.seen.injected, 0),
    stopUsMedian: stopsUs.length === 0 ? null : median(stopsUs),
  };
}
