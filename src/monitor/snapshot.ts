// SPDX-License-Identifier: Apache-2.0
/**
 * What the sampling Worker says once a second, and what it is told: plain data. See samplerWorker.ts.
 */
import type {
  ControlGroupHealth,
  CounterAbilities,
  HostHealth,
  ProcessHealth,
  Seen,
  WorkloadCounters,
} from "#health.ts";
import type { Mailbox } from "#mailbox.ts";
import type { EventPlan } from "./counters/eventPlan.ts";

/** A workload to watch: its processes, the first one is it. */
export type Target = {
  readonly workload: string;
  readonly kind: "program" | "guest";
  readonly pids: readonly number[];
};

/** One look at a thread. Switches are only read of threads that were busy. */
export type ThreadLook = {
  readonly tid: number;
  readonly name: string;
  readonly state: string;
  readonly cpuSeconds: number;
  readonly switches: { readonly voluntary: number; readonly forced: number } | null;
};

export type TargetSnapshot = {
  readonly workload: string;
  readonly kind: Target["kind"];
  readonly process: Seen<ProcessHealth>;
  readonly controlGroup: Seen<ControlGroupHealth>;
  readonly threads: readonly ThreadLook[];
  readonly counters: WorkloadCounters;
};

export type Snapshot = {
  readonly atMs: number;
  readonly monotonicNs: number;
  /** Time since the boot, suspended or not (CLOCK_BOOTTIME), beside which a step of `atMs` shows; null where it cannot be read. */
  readonly bootMs: number | null;
  /** null in between: the box is looked at less often. */
  readonly host: HostHealth | null;
  readonly abilities: CounterAbilities;
  readonly targets: readonly TargetSnapshot[];
  readonly samplesLate: number;
};

export type SamplerStart = {
  readonly plan: EventPlan;
  readonly buffer: SharedArrayBuffer;
  readonly control: SharedArrayBuffer;
  readonly rateHz: number;
  readonly places: readonly string[];
  /** Where lists of targets come in. */
  readonly mailbox: Mailbox;
};

/** Words of the control memory: 1 ends the Worker; seconds it has served. */
export const controlWords = { end: 0, beats: 1 } as const;
export const controlBytes = 8;
