// SPDX-License-Identifier: Apache-2.0
/**
 * The monitor within a supervisor. Hears every notice of its workloads, and by that knows what to watch, what to count and
 * when a minute is to be kept; writes detections, flight records and thinned samples to storage.
 *
 *     notices ─hear─▶ watch, count, mark ─▶ monitor ─once a second─▶ detections ─▶ journal, notices
 *                          └─ a fault ─▶ flight record ─▶ journal       every 10 s ─▶ history
 *
 * Nothing here is awaited by anybody: what a fault costs is a few additions, after its thread runs again.
 */
import { systemBox } from "#board/box.ts";
import type { Clock } from "#clock.ts";
import type { Detection } from "#health.ts";
import type { Log } from "#log.ts";
import { type MetricSample, sampleOf } from "#metrics.ts";
import { type HistoryState, historyRows } from "#monitor/historyRows.ts";
import { defaultMonitorSettings, Monitor, type MonitorSettings } from "#monitor/monitor.ts";
import { type ObservedOptions, observed, type ProbeSchedule, runProbe } from "#monitor/probeRunner.ts";
import { type Probe, parseProbe } from "#monitor/probes.ts";
import type { Storage } from "#storage/storage.ts";
import { TaskGroup } from "#tasks.ts";
import { FlightKeeper } from "./flightKeeper.ts";
import { LoopLag } from "./loopLag.ts";
import type { Notice } from "./notices.ts";

/** Raw samples of the history are this far apart; storage folds them into minutes and hours. */
export const historyEveryMs = 10_000;
/** Guests have pages of this size. */
const pageBytes = 4_096;

export type MonitoringOptions = {
  readonly settings?: MonitorSettings;
  readonly storage: Pick<Storage, "event" | "sample">;
  readonly clock: Clock;
  readonly log: Log;
  readonly places: readonly string[];
  /** Tells people of a detection. */
  readonly tell: (notice: Notice) => void;
};

export class Monitoring implements AsyncDisposable {
  readonly monitor: Monitor;
  readonly lag: LoopLag;
  readonly #options: MonitoringOptions;
  readonly #tasks = new TaskGroup();
  readonly #flights: FlightKeeper;
  #historyNs = 0;
  #historyState: HistoryState = null;

  constructor(options: MonitoringOptions) {
    this.#options = options;
    const { clock, log, places, settings = defaultMonitorSettings } = options;
    this.monitor = new Monitor({
      ...settings,
      ...{ box: systemBox, clock, places },
      detected: (detection) => this.#detected(detection),
      looked: () => this.#keepHistory(),
      blind: (why) => log("error", "monitor.blind", { why }),
    });
    this.lag = new LoopLag(clock);
    this.#flights = new FlightKeeper(this.monitor, options.storage, clock, this.#tasks);
    this.#tasks.start((signal) => this.lag.run(signal));
    this.monitor.registry.source(() => this.#selfSamples());
  }

  /** Every notice of every workload comes by here. */
  hear(notice: Notice): void {
    const { monitor } = this;
    const { workload } = notice;
    const { registry } = monitor;
    switch (notice.event) {
      case "guarding":
        monitor.watch(workload, "program", notice.pid);
        registry.set("workload_protected", [workload], 1);
        break;
      case "guest":
        if (notice.pid !== null) monitor.watch(workload, "guest", notice.pid);
        else monitor.down(workload);
        break;
      case "unguarded":
        registry.set("workload_protected", [workload], 0);
        break;
      case "exit":
        registry.set("workload_protected", [workload], 0);
        monitor.down(workload);
        break;
      case "fault":
        registry.add("faults_total", [workload, notice.signal]);
        registry.observe("stop_seconds", [workload], notice.stopUs / 1e6);
        monitor.faulted(workload);
        monitor.mark(workload, `${notice.signal} ${notice.action.split(" ")[0]}`);
        this.#flights.fault(workload, notice.id);
        break;
      case "outcome":
        registry.add("suppressions_total", [workload, notice.rung, notice.verdict]);
        if (notice.session !== null && notice.rung === "quarantine") registry.add("sessions_cut_total", [workload]);
        monitor.mark(workload, `${notice.rung} ${notice.verdict}`);
        break;
      case "released":
        registry.add("locks_released_total", [workload]);
        monitor.mark(workload, "lock released");
        break;
      case "guestOutcome":
        registry.add("suppressions_total", [workload, notice.rung, notice.verdict]);
        registry.add("restarts_total", [workload]);
        if (notice.rung === "restore" && notice.verdict === "clean")
          registry.observe("restore_seconds", [workload], notice.downMs / 1_000);
        monitor.mark(workload, `${notice.rung} ${notice.verdict}`);
        break;
      case "checkpoint":
        registry.observe("checkpoint_pause_seconds", [workload], notice.stillMs / 1_000);
        break;
      case "restored": {
        const { prefetchedBytes, backgroundBytes, demandedBytes, waits } = notice;
        registry.add("restore_pages_total", [workload, "prefetch"], (prefetchedBytes + backgroundBytes) / pageBytes);
        registry.add("restore_pages_total", [workload, "demand"], demandedBytes / pageBytes);
        registry.merge("restore_page_seconds", [workload], waits);
        break;
      }
    }
  }

  /** Asks these probes of a workload by a schedule, until we end. */
  probe(
    workload: string,
    probes: readonly { readonly name: string; readonly probe: Probe }[],
    schedule: ProbeSchedule,
  ): void {
    const { clock } = this.#options;
    const told = this.#toldOf(workload);
    for (const { name, probe } of probes) {
      this.#tasks.start((signal) => runProbe({ name, probe, schedule, clock, told }, signal));
    }
  }

  /** Probes that somebody else asks, told to the monitor at each answer. */
  observed(
    workload: string,
    words: readonly string[],
    times: Pick<ObservedOptions, "failuresMax" | "patienceMs">,
  ): readonly Probe[] {
    const { clock } = this.#options;
    const told = this.#toldOf(workload);
    const clockTold = (peerMs: number): void => this.monitor.clockTold(workload, peerMs);
    return words.map((name) => observed({ name, probe: parseProbe(name, clockTold), clock, told, ...times }));
  }

  #toldOf(workload: string): ObservedOptions["told"] {
    return (state) => {
      this.monitor.probed(workload, state);
      if (state.why !== null) this.monitor.registry.add("probes_failed_total", [workload]);
    };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#flights.close();
    await this.#tasks[Symbol.asyncDispose]();
    this.monitor[Symbol.dispose]();
  }

  #detected(detection: Detection): void {
    const { storage, tell } = this.#options;
    const { detector, workload, kind, sinceMs, text, evidence } = detection;
    storage.event(`monitor.${kind}`, workload, { detector, sinceMs, text, ...evidence });
    tell({ event: "detection", workload, detector, kind, text, evidence });
  }

  #keepHistory(): void {
    const { clock, storage } = this.#options;
    const nowNs = clock.monotonicNs();
    if (nowNs - this.#historyNs < historyEveryMs * 1e6) return;
    this.#historyNs = nowNs;
    const { rows, state } = historyRows(this.monitor, this.#historyState);
    this.#historyState = state;
    for (const { name, workload, value, unit } of rows) storage.sample(name, workload, value, unit);
  }

  #selfSamples(): MetricSample[] {
    const { user, system } = process.cpuUsage();
    return [
      sampleOf("self_rss_bytes", [], process.memoryUsage.rss()),
      sampleOf("self_cpu_seconds_total", [], (user + system) / 1e6),
      sampleOf("self_loop_lag_seconds", [], this.lag.longestMs / 1000),
      sampleOf("self_open_fds", [], systemBox.names("/proc/self/fd").length),
    ];
  }
}
