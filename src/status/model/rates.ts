// SPDX-License-Identifier: Apache-2.0
/**
 * What the processor and the kernel count for each workload, as totals and as rates of the last seconds. Gets two looks of
 * the monitor; gives rows. A rate needs both looks; what was never on hardware has no number, not zero. Pure.
 */
import type { CounterReading, HostHealth, WorkloadCounters } from "#health.ts";
import type { LookTold } from "../told.ts";

/** Two looks this far apart give a steady rate. */
export const rateSpanMs = 5_000;

export type CounterRow = {
  readonly event: CounterReading["event"];
  /** Cluster of a big.LITTLE processor, "" where all processors are alike. */
  readonly cluster: string;
  /** Since counting began; null where it was never on hardware. task_clock in ns. */
  readonly total: number | null;
  readonly perSecond: number | null;
  /** Share of time on hardware, 0..1. */
  readonly runningRatio: number;
};

export type CounterTable = {
  readonly workload: string;
  readonly threads: number;
  readonly rows: readonly CounterRow[];
  /** Of the last seconds; null where one of the two events has no number. */
  readonly instructionsPerCycle: number | null;
  readonly cacheMissesPerThousand: number | null;
  readonly branchMissesPerThousand: number | null;
  readonly processors: number | null;
  /** Exits of a guest's virtual processors, by reason, the most frequent first. */
  readonly exits: readonly (readonly [reason: string, count: number])[];
};

const exitsMax = 8;

export const counterTables = (now: LookTold | null, before: LookTold | null): CounterTable[] =>
  (now?.counters ?? []).map((each) =>
    tableOf(each, before?.counters.find(({ workload }) => workload === each.workload) ?? null),
  );

function tableOf(counters: WorkloadCounters, old: WorkloadCounters | null): CounterTable {
  const seconds = old === null ? 0 : (counters.atMs - old.atMs) / 1_000;
  const rows = counters.readings.map((reading): CounterRow => {
    const then = old?.readings.find((each) => each.event === reading.event && each.cluster === reading.cluster);
    return { ...reading, perSecond: seconds > 0 ? rateOf(reading.total, then?.total ?? null, seconds) : null };
  });
  const rate = (event: CounterRow["event"]): number | null => sumOf(rows.filter((row) => row.event === event));
  const instructions = rate("instructions");
  const clock = rate("task_clock");
  const { exits } = counters;
  const found = exits.kind === "seen" ? Object.entries(exits.value) : [];
  return {
    ...{ workload: counters.workload, threads: counters.threads, rows },
    instructionsPerCycle: quotient(instructions, rate("cycles"), 1),
    cacheMissesPerThousand: quotient(rate("cache_misses"), instructions, 1_000),
    branchMissesPerThousand: quotient(rate("branch_misses"), instructions, 1_000),
    processors: clock === null ? null : clock / 1e9,
    exits: found.sort((a, b) => b[1] - a[1]).slice(0, exitsMax),
  };
}

/** A count that fell began anew: there is no rate until the next look. */
const rateOf = (now: number | null, then: number | null, seconds: number): number | null =>
  now === null || then === null || now < then ? null : (now - then) / seconds;

function sumOf(rows: readonly CounterRow[]): number | null {
  const known = rows.flatMap(({ perSecond }) => (perSecond === null ? [] : [perSecond]));
  return known.length === 0 ? null : known.reduce((sum, each) => sum + each, 0);
}

const quotient = (part: number | null, whole: number | null, scale: number): number | null =>
  part === null || whole === null || whole === 0 ? null : (part / whole) * scale;

/** Share of all processors that was not idle between two looks, 0..1. */
export function busyShare(now: HostHealth | null, before: HostHealth | null): number | null {
  if (now === null || before === null) return null;
  const passed = now.processorSeconds - before.processorSeconds;
  return passed <= 0 ? null : Math.max(0, Math.min(1, (now.busySeconds - before.busySeconds) / passed));
}
