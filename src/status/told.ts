// SPDX-License-Identifier: Apache-2.0
/**
 * What the page is told by the supervisor: one plain snapshot, sent a few times a second, never pulled. All that the record
 * holds (faults, outcomes, events) is not in it: the page reads that by cursor, from its own thread.
 *
 * A part that is not there is a stated value (`known: false` and why), never an invented number.
 */
import type { MonitorView, WorkloadCounters } from "#health.ts";
import type { MetricSample } from "#metrics.ts";
import type { StorageState } from "#storage/stateFile.ts";
import type { VerbName } from "#verbs.ts";

export type Known<Value> =
  | { readonly known: true; readonly value: Value }
  | { readonly known: false; readonly why: string };

export const unknown = (why: string): { readonly known: false; readonly why: string } => ({ known: false, why });

/** How a workload is. `guarded` and `up` are good; `error` and `ended` are ends that somebody or something decided. */
export const workloadStates = [
  "starting",
  "guarded",
  "unguarded",
  "up",
  "paused",
  "restarting",
  "down",
  "error",
  "ended",
] as const;
export type WorkloadState = (typeof workloadStates)[number];

export const standbyStates = ["none", "raising", "ready", "resting"] as const;

export type WorkloadTold = {
  readonly name: string;
  readonly kind: "program" | "guest";
  readonly state: WorkloadState;
  /** Wall clock, ms: since when it is in this state. */
  readonly sinceMs: number;
  readonly pid: number | null;
  readonly threads: number | null;
  /** Whether a fault would be met now; and if not, why. */
  readonly protected: boolean;
  readonly why: string | null;
  /** Automatic restarts within the window, and how many it may have; null where nothing restarts it. */
  readonly restarts: { readonly used: number; readonly max: number } | null;
  /** A guest that was restored and whose memory still arrives; null otherwise. */
  readonly arriving: ArrivingTold | null;
  /** The process that stands by for a guest's next restore; null for programs. */
  readonly standby: StandbyTold | null;
  /** Whether faults of it are, for now, passed on as if nobody watched. */
  readonly suppressionOff: boolean;
  /** Programs that are guarded inside a guest. */
  readonly programs: readonly string[];
  /** Verbs that can be asked for it. */
  readonly verbs: readonly VerbName[];
};

/** `why`: none stands by, or it rests after a failure. */
export type StandbyTold = {
  readonly state: (typeof standbyStates)[number];
  readonly checkpoint: string | null;
  readonly pid: number | null;
  readonly why: string | null;
};

/** Bytes of a restored guest's memory: what had come before it ran, because it asked, and behind its back. */
export type ArrivingTold = {
  readonly checkpoint: string;
  readonly mode: "lazy" | "eager";
  readonly contentBytes: number;
  readonly prefetchedBytes: number;
  readonly demandedBytes: number;
  readonly backgroundBytes: number;
  /** Microseconds that it waited for a page: half of the waits at most, 99 % at most. Null while it waited for none. */
  readonly waitUsP50: number | null;
  readonly waitUsP99: number | null;
};

export type UplinkTold = {
  readonly broker: string;
  readonly connected: boolean;
  readonly sinceMs: number;
  readonly why: string | null;
  readonly lastAckMs: number | null;
  readonly waitingMessages: number;
  readonly oldestMs: number | null;
  readonly droppedRows: number;
  /** When the client certificate ends; null where there is none. */
  readonly certificateEndsMs: number | null;
};

/** Hardware counters of the processor, as they are available here. */
export type CountersTold = { readonly kind: "hardware" | "software"; readonly why: string };

export type CheckpointTold = {
  readonly guest: string;
  readonly id: string;
  readonly atMs: number;
  readonly bytes: number;
  readonly good: boolean;
};

/** What the monitor sees, as far as the page shows it: it is copied to another thread twice a second. */
export type LookTold = Pick<MonitorView, "atMs" | "host" | "hostBefore" | "detections"> & {
  readonly counters: readonly WorkloadCounters[];
};

/** One of two systems that a flashed box can start. */
export type SlotTold = {
  readonly slot: string;
  readonly running: boolean;
  /** null where no version has proven itself in it. */
  readonly version: string | null;
  readonly good: boolean;
  /** Starts that have not proven themselves yet. */
  readonly tries: number;
};
export type BootTold = { readonly atMs: number; readonly reason: string; readonly why: string };

/** Slots, the present update and how it stands, and why the box was started the last times. */
export type UpdateTold = {
  readonly slot: string;
  readonly version: string;
  readonly slots: readonly SlotTold[];
  readonly phase: "idle" | "installing" | "installed" | "trial" | "good" | "failed";
  /** How it stands, in one sentence. */
  readonly says: string;
  readonly sinceMs: number | null;
  /** Of the writing, while it goes on. */
  readonly percent: number | null;
  readonly refused: readonly { readonly version: string; readonly reason: string; readonly atMs: number }[];
  readonly lastRollback: { readonly version: string; readonly reason: string; readonly atMs: number } | null;
  readonly lock: {
    readonly why: string;
    readonly by: string;
    readonly atMs: number;
    readonly untilMs: number | null;
  } | null;
  /** Its key is known to everybody: for trying, not for the field. */
  readonly testKey: boolean;
};

export type Told = {
  readonly atMs: number;
  readonly box: string;
  readonly version: string;
  readonly runtime: string;
  readonly mode: "guard" | "run";
  readonly startedMs: number;
  readonly pid: number;
  readonly workloads: readonly WorkloadTold[];
  readonly storage: StorageState;
  /** Newest durable row of the journal. */
  readonly cursor: number;
  readonly uplink: Known<UplinkTold>;
  readonly counters: Known<CountersTold>;
  readonly checkpoints: Known<readonly CheckpointTold[]>;
  /** What holds updates back, "" where nothing does. */
  readonly updateLock: Known<string>;
  readonly update: Known<UpdateTold>;
  /** Why the machine was started the last times, newest last. */
  readonly boots: readonly BootTold[];
  /** Verbs that can be asked for the box itself. */
  readonly boxVerbs: readonly VerbName[];
  /** Warnings that stand, newest last: sentences for people. */
  readonly warnings: readonly { readonly atMs: number; readonly workload: string; readonly text: string }[];
  /** What the monitor sees of the machine and of each workload; null where there is none. */
  readonly monitor: LookTold | null;
  /** Samples of the metric catalogue that only the supervisor can take. */
  readonly metrics: readonly MetricSample[];
};
