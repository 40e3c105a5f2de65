// SPDX-License-Identifier: Apache-2.0
/**
 * Asks a probe again and again: after an initial delay, every period, failing after so many failures in a row. Gets a probe
 * and a schedule; tells every answer with the state after it.
 *
 *     waiting ──passes──▶ passing ⇄ (failuresMax in a row / one success) ⇄ failing
 *        └──────────────failuresMax in a row───────────────▶ failing
 *
 * The period is from answer to question, so a slow answer never piles up questions.
 */
import type { Clock } from "#clock.ts";
import type { ProbeState } from "#health.ts";
import type { Probe } from "./probes.ts";

export type ProbeSchedule = {
  readonly initialDelayMs: number;
  readonly periodMs: number;
  /** Failures in a row that make it failing. */
  readonly failuresMax: number;
};
export const defaultSchedule: ProbeSchedule = { initialDelayMs: 0, periodMs: 5_000, failuresMax: 3 };

export const newProbeState = (probe: string): ProbeState => ({
  ...{ probe, state: "waiting", failuresInRow: 0, failures: 0, lastMs: null, why: null, answerMs: null },
});

export type ProbeAnswer = { readonly trouble: string | null; readonly atMs: number; readonly answerMs: number };

/** The state after an answer. Pure. */
export function takeAnswer(state: ProbeState, answer: ProbeAnswer, failuresMax: number): ProbeState {
  const { trouble, atMs, answerMs } = answer;
  const told = { probe: state.probe, lastMs: atMs, answerMs, why: trouble };
  if (trouble === null) return { ...told, state: "passing", failuresInRow: 0, failures: state.failures };
  const failuresInRow = state.failuresInRow + 1;
  const failures = state.failures + 1;
  return { ...told, state: failuresInRow >= failuresMax ? "failing" : state.state, failuresInRow, failures };
}

export type ProbeRunnerOptions = {
  /** Its word in the configuration. */
  readonly name: string;
  readonly probe: Probe;
  readonly schedule: ProbeSchedule;
  readonly clock: Clock;
  /** Called after each answer; `before` is the state until then. */
  readonly told: (state: ProbeState, before: ProbeState) => void;
};

/** Asks until the signal aborts. */
export async function runProbe(options: ProbeRunnerOptions, signal: AbortSignal): Promise<void> {
  const { schedule, clock } = options;
  const ask = observed({ ...options, patienceMs: 0, failuresMax: schedule.failuresMax });
  let waitMs = schedule.initialDelayMs;
  while (!signal.aborted) {
    await clock.sleep(waitMs, signal).catch(() => {});
    if (signal.aborted) return;
    await ask(signal);
    waitMs = schedule.periodMs;
  }
}

export type ObservedOptions = Omit<ProbeRunnerOptions, "schedule"> & {
  readonly failuresMax: number;
  /** For so long after the first question a failure before any success is nobody's news: it is starting. */
  readonly patienceMs: number;
};

/** A probe whose every answer is told, whoever asks it: a workload is asked once for all that want to know. */
export function observed({ name, probe, failuresMax, patienceMs, clock, told }: ObservedOptions): Probe {
  let state = newProbeState(name);
  let firstNs: number | null = null;
  return async (signal) => {
    const askedNs = clock.monotonicNs();
    firstNs ??= askedNs;
    const trouble = await probe(signal);
    // An answer that the end cut short says nothing about the program.
    if (signal.aborted) return trouble;
    const nowNs = clock.monotonicNs();
    const starts = trouble !== null && state.state === "waiting" && nowNs - firstNs < patienceMs * 1e6;
    if (starts) return trouble;
    const before = state;
    state = takeAnswer(before, { trouble, atMs: clock.wallMs(), answerMs: (nowNs - askedNs) / 1e6 }, failuresMax);
    told(state, before);
    return trouble;
  };
}
