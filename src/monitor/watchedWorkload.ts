// SPDX-License-Identifier: Apache-2.0
/**
 * One workload as the monitor knows it: its process, its history, its detectors, its probes, its last events. Gets
 * snapshots; gives detections and what to show.
 */
import {
  absent,
  type Detection,
  detectorNames,
  type FlightMark,
  type MonitorView,
  type ProbeState,
  seen,
} from "#health.ts";
import { type MetricSample, sampleOf } from "#metrics.ts";
import { type BankState, detect, newBank } from "./detectors/bank.ts";
import {
  emptyHistory,
  type Frame,
  type FrameFacts,
  frameOf,
  type History,
  rate,
  withFrame,
} from "./detectors/frame.ts";
import type { DetectorLimits } from "./detectors/limits.ts";
import { leakTrend } from "./detectors/slow.ts";
import type { Snapshot, TargetSnapshot } from "./snapshot.ts";

/** Minutes of memory that a trend takes at least. */
const trendMinutesMin = 30;
/** Seconds that the small curve of `top` and the page shows. */
export const shareSeconds = 60;

type WorkloadView = MonitorView["workloads"][number];

export class WatchedWorkload {
  history: History = emptyHistory;
  faults = 0;
  /** Threads of the last look. */
  tids: ReadonlySet<number> = new Set();
  #pid: number | null = null;
  #bank: BankState = newBank;
  #probes = new Map<string, ProbeState>();
  #peerClock: Frame["peerClock"] = null;
  #marks: readonly FlightMark[] = [];
  #last: TargetSnapshot | null = null;
  #atMs = 0;
  #kind: "program" | "guest" = "program";

  constructor(readonly workload: string) {}

  /** Of what was watched last; a program until anything was. */
  get kind(): "program" | "guest" {
    return this.#kind;
  }

  /** The process that is watched; null while it does not run. */
  get pid(): number | null {
    return this.#pid;
  }

  get marks(): readonly FlightMark[] {
    return this.#marks;
  }
  get raised(): readonly Detection[] {
    return [...this.#bank.raised.values()].map(({ detection }) => detection);
  }

  begin(kind: "program" | "guest", pid: number): void {
    this.#kind = kind;
    this.follow(pid);
  }
  /** Another process from now on: what was learned of the old one says nothing of it. */
  follow(pid: number | null): void {
    if (pid === this.#pid) return;
    this.#pid = pid;
    if (pid === null) return;
    this.history = emptyHistory;
    this.#last = null;
    this.#peerClock = null;
  }
  probed(state: ProbeState): void {
    this.#probes.set(state.probe, state);
  }
  clockTold(told: NonNullable<Frame["peerClock"]>): void {
    this.#peerClock = told;
  }
  mark(mark: FlightMark, most: number): void {
    this.#marks = [...this.#marks.slice(-(most - 1)), mark];
  }

  /** One look more; gives what the detectors say to it. */
  take(
    target: TargetSnapshot,
    { atMs, monotonicNs, bootMs }: Pick<Snapshot, "atMs" | "monotonicNs" | "bootMs">,
    box: FrameFacts["box"],
    limits: DetectorLimits,
  ): readonly Detection[] {
    this.#last = target;
    this.#atMs = atMs;
    this.tids = new Set(target.threads.map(({ tid }) => tid));
    const probes = [...this.#probes.values()];
    // A program has the clock of this machine; a guest has its own, which its answers may tell.
    const own = bootMs === null ? null : { peerMs: atMs, monotonicMs: bootMs };
    const peerClock = this.kind === "program" ? own : this.#peerClock;
    const facts = { atMs, monotonicMs: monotonicNs / 1e6, faults: this.faults, probes, box };
    this.history = withFrame(this.history, frameOf(target, { ...facts, peerClock }));
    const { state, news } = detect(this.#bank, this.workload, this.history, limits);
    this.#bank = state;
    return news;
  }

  /** `blind`: why nothing is seen any more, or null. */
  view(blind: string | null): WorkloadView {
    const { workload, kind, history } = this;
    const notSeen = absent(blind ?? (this.pid === null ? "it does not run" : "it was not looked at yet"));
    const last = blind === null && this.pid !== null ? this.#last : null;
    const trend = history.minutes.length < trendMinutesMin ? null : leakTrend(history.minutes);
    const leak = trend === null ? absent(`it takes ${trendMinutesMin} minutes to tell`) : seen(trend);
    return {
      health: {
        ...{ workload, kind, atMs: this.#atMs, leak },
        process: last?.process ?? notSeen,
        controlGroup: last?.controlGroup ?? notSeen,
        probes: [...this.#probes.values()],
      },
      counters: last?.counters ?? null,
      faults: this.faults,
      processorShare: this.processorShare(),
    };
  }

  /** Processors used in each of the last seconds, oldest first. */
  processorShare(): (number | null)[] {
    const frames = this.history.frames.slice(-(shareSeconds + 1));
    return frames.slice(1).map((frame, index) => rate([frames[index]!, frame], (each) => each.cpuSeconds));
  }

  samples(): MetricSample[] {
    const raised = new Set(this.#bank.raised.keys());
    return detectorNames.map((name) => sampleOf("detector_raised", [this.workload, name], Number(raised.has(name))));
  }
}
