// SPDX-License-Identifier: Apache-2.0
/**
 * The monitor: sees, and decides nothing. Gets workloads to watch and what happens to them; gives health, counters,
 * detections, metrics, and flight records.
 *
 * All that takes time is done by the sampling Worker; the main loop spends well under a millisecond a second here, and a
 * fault only adds to a few numbers. Where the Worker ends, everything else goes on and says what is no longer seen.
 */
import type { Box } from "#board/box.ts";
import type { Clock } from "#clock.ts";
import {
  absent,
  type CounterAbilities,
  type Detection,
  type FlightMark,
  type FlightRecord,
  type HostHealth,
  type MonitorView,
  type ProbeState,
} from "#health.ts";
import { type MetricSample, sampleOf } from "#metrics.ts";
import { abilitiesOf } from "./counters/abilities.ts";
import { counterSamples } from "./counters/counterSamples.ts";
import { SamplerPort } from "./counters/samplerPort.ts";
import { boxFacts } from "./detectors/frame.ts";
import { type DetectorLimits, defaultDetectorLimits } from "./detectors/limits.ts";
import { flightRecord, marksMax } from "./flight.ts";
import { hostSamples, workloadSamples } from "./health/healthSamples.ts";
import { MetricRegistry } from "./metricRegistry.ts";
import type { Snapshot } from "./snapshot.ts";
import { WatchedWorkload } from "./watchedWorkload.ts";

export type MonitorSettings = {
  /** Samples of the counters a second, 1 to 1,000. */
  readonly rateHz: number;
  readonly limits: DetectorLimits;
};
export const defaultMonitorSettings: MonitorSettings = { rateHz: 10, limits: defaultDetectorLimits };

export type MonitorOptions = MonitorSettings & {
  readonly box: Box;
  readonly clock: Clock;
  /** Directories whose file systems are watched. */
  readonly places: readonly string[];
  readonly detected: (detection: Detection) => void;
  /** After each look, about once a second. */
  readonly looked: (view: Monitor) => void;
  /** The Worker ended: what it saw is not seen any more. */
  readonly blind: (why: string) => void;
};

export class Monitor implements Disposable {
  readonly registry = new MetricRegistry();
  readonly #options: MonitorOptions;
  readonly #port: SamplerPort;
  readonly #workloads = new Map<string, WatchedWorkload>();
  #host: HostHealth | null = null;
  #hostBefore: HostHealth | null = null;
  #abilities: CounterAbilities;
  #last: Snapshot | null = null;
  #watched = "";
  #ended: string | null = null;

  constructor(options: MonitorOptions) {
    this.#options = options;
    const { box, rateHz, places } = options;
    this.#port = new SamplerPort({
      ...{ box, rateHz, places },
      snapshot: (snapshot) => this.#take(snapshot),
      ended: (why) => {
        this.#ended = why;
        options.blind(why);
      },
    });
    this.#abilities = abilitiesOf(this.#port.plan, []);
    this.registry.source(() => this.#samples());
  }

  /** Watches this process under the name of its workload, in place of what was watched under it before. */
  watch(workload: string, kind: "program" | "guest", pid: number): void {
    this.#known(workload).begin(kind, pid);
    this.#tellTargets();
  }

  /** The workload does not run now; what is known of it stays. */
  down(workload: string): void {
    this.#workloads.get(workload)?.follow(null);
    this.#tellTargets();
  }

  forget(workload: string): void {
    this.#workloads.delete(workload);
    this.#tellTargets();
  }

  probed(workload: string, state: ProbeState): void {
    this.#known(workload).probed(state);
  }
  /** The wall clock of a workload, as it told it in an answer. */
  clockTold(workload: string, peerMs: number): void {
    this.#workloads.get(workload)?.clockTold({ peerMs, monotonicMs: this.#options.clock.monotonicNs() / 1e6 });
  }
  faulted(workload: string): void {
    this.#known(workload).faults += 1;
  }
  /** Something that happened, for the flight records of the next minute. */
  mark(workload: string, text: string): void {
    const mark: FlightMark = { atMs: this.#options.clock.wallMs(), text };
    this.#workloads.get(workload)?.mark(mark, marksMax);
  }

  /** The minute around a fault, as far as it is over. */
  flight(workload: string, fault: string, faultMs: number): FlightRecord | null {
    const watched = this.#workloads.get(workload);
    if (watched === undefined) return null;
    const { clock } = this.#options;
    const { plan, board } = this.#port;
    // Samples carry the monotonic time of the Worker, which began later than ours.
    const { atMs, monotonicNs } = this.#last ?? { atMs: clock.wallMs(), monotonicNs: clock.monotonicNs() };
    return flightRecord({
      ...{ fault, workload, faultMs, plan, board },
      wallAtZeroMs: atMs - monotonicNs / 1e6,
      frames: watched.history.frames,
      tids: watched.tids,
      marks: watched.marks,
    });
  }

  get workloads(): readonly WatchedWorkload[] {
    return [...this.#workloads.values()];
  }
  get host(): HostHealth | null {
    return this.#host;
  }
  /** Rounds of the Worker; stands still where it hangs. */
  get beats(): number {
    return this.#port.beats;
  }

  view(): MonitorView {
    return {
      atMs: this.#options.clock.wallMs(),
      host: this.#host,
      hostBefore: this.#hostBefore,
      counters: this.#abilities,
      workloads: this.workloads.map((watched) => watched.view(this.#ended)),
      detections: this.workloads.flatMap((watched) => watched.raised),
    };
  }

  [Symbol.dispose](): void {
    this.#port[Symbol.dispose]();
  }

  #take(snapshot: Snapshot): void {
    const { limits, detected, looked } = this.#options;
    this.#last = snapshot;
    this.#abilities = snapshot.abilities;
    if (snapshot.host !== null) [this.#host, this.#hostBefore] = [snapshot.host, this.#host];
    const box = boxFacts(this.#host);
    for (const target of snapshot.targets) {
      const watched = this.#workloads.get(target.workload);
      for (const detection of watched?.take(target, snapshot, box, limits) ?? []) {
        if (detection.kind === "raised") {
          this.registry.add("detections_total", [detection.workload, detection.detector]);
          if (detection.detector === "hang") this.registry.add("hangs_total", [detection.workload]);
        }
        this.mark(detection.workload, `${detection.detector} ${detection.kind}`);
        detected(detection);
      }
    }
    looked(this);
  }

  /** A workload may be spoken of before it is watched: a guest is probed while it boots, a program may fault at once. */
  #known(workload: string): WatchedWorkload {
    const known = this.#workloads.get(workload);
    if (known !== undefined) return known;
    const watched = new WatchedWorkload(workload);
    this.#workloads.set(workload, watched);
    return watched;
  }

  #tellTargets(): void {
    const targets = this.workloads.flatMap(({ workload, kind, pid }) =>
      pid === null ? [] : [{ workload, kind, pids: [pid] }],
    );
    const text = JSON.stringify(targets);
    if (text === this.#watched) return;
    this.#watched = text;
    this.#port.watch(targets);
  }

  #samples(): MetricSample[] {
    const kinds = ["hardware", "software", "none"] as const;
    const stale = this.#ended === null ? absent("") : absent(this.#ended);
    return [
      ...(this.#host === null || stale.why !== "" ? [] : hostSamples(this.#host)),
      ...kinds.map((kind) => sampleOf("counters_available", [kind], Number(this.#abilities.kind === kind))),
      sampleOf("self_samples_late_total", [], this.#last?.samplesLate ?? 0),
      ...this.workloads.flatMap((watched) => {
        const { health, counters } = watched.view(this.#ended);
        return [
          ...workloadSamples(health),
          ...(counters === null ? [] : counterSamples(counters)),
          ...watched.samples(),
        ];
      }),
    ];
  }
}
