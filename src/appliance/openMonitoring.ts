// SPDX-License-Identifier: Apache-2.0
/**
 * The monitor and its socket, opened together for a supervisor: one line of wiring. Gets the supervisor's parts; gives what
 * is to hear its notices.
 */
import type { Clock } from "#clock.ts";
import { limitsOf, type MonitorSection } from "#config/monitorSection.ts";
import type { MonitorView } from "#health.ts";
import type { Log } from "#log.ts";
import type { MetricSample } from "#metrics.ts";
import { defaultDetectorLimits } from "#monitor/detectors/limits.ts";
import type { MonitorSettings } from "#monitor/monitor.ts";
import { defaultSchedule, type ProbeSchedule } from "#monitor/probeRunner.ts";
import { parseProbe } from "#monitor/probes.ts";
import { type CountersTold, type Known, unknown } from "#status/told.ts";
import type { Storage } from "#storage/storage.ts";
import type { Hearers } from "./hearers.ts";
import { Monitoring } from "./monitoring.ts";
import type { Notice, Notices } from "./notices.ts";
import { openViewSocket } from "./viewSocket.ts";

export type OpenMonitoringOptions = {
  /** Left out: as it is by default. */
  readonly section?: MonitorSection;
  readonly storage: Storage;
  readonly notices: Notices;
  readonly clock: Clock;
  readonly log: Log;
  readonly directory: string;
  readonly runDirectory: string;
  /** Hearers of all notices: the monitor joins them. */
  readonly hearers: Hearers;
};

/** As a section of the configuration has them. */
export type ProbeTimes = {
  readonly probeDelayMs?: number;
  readonly probeEveryMs: number;
  readonly probeFailuresMax: number;
};

export type OpenedMonitoring = AsyncDisposable & {
  readonly monitoring: Monitoring;
  readonly view: () => MonitorView;
  /** What the status page tells of it. */
  readonly told: { readonly metrics: () => readonly MetricSample[]; readonly counters: () => Known<CountersTold> };
  /** These samples are part of the metrics too; where both have one, ours counts. */
  readonly join: (metrics: () => readonly MetricSample[]) => void;
  /** Asks the probes of a workload by their words, as its section says or at the usual times. */
  readonly watchProbes: (workload: string, words: readonly string[], times?: ProbeTimes) => void;
};

export function openMonitoring(options: OpenMonitoringOptions): OpenedMonitoring {
  const { section, storage, notices, clock, log, directory, runDirectory, hearers } = options;
  const tell = (notice: Notice): void => notices.tell(notice);
  const monitoring = new Monitoring({
    ...(section === undefined ? {} : { settings: settingsOf(section) }),
    ...{ storage, clock, log, tell, places: ["/", directory] },
  });
  const hearing = hearers.add((notice) => monitoring.hear(notice));
  const { monitor } = monitoring;
  const sources = { view: () => monitor.view(), metrics: monitor.registry.collect };
  const socket = openViewSocket(runDirectory, sources, (why) => log("warn", "monitor.noSocket", { why }));
  return {
    monitoring,
    view: sources.view,
    told: { metrics: () => [...monitor.registry.collect()], counters: () => countersTold(monitor.view()) },
    join: (metrics) => void monitor.registry.source(metrics),
    watchProbes: (workload, words, times) => {
      const probes = words.map((name) => ({ name, probe: parseProbe(name) }));
      monitoring.probe(workload, probes, times === undefined ? defaultSchedule : scheduleOf(times));
    },
    async [Symbol.asyncDispose]() {
      hearing[Symbol.dispose]();
      await socket?.[Symbol.asyncDispose]();
      await monitoring[Symbol.asyncDispose]();
    },
  };
}

const scheduleOf = ({ probeDelayMs = 0, probeEveryMs, probeFailuresMax }: ProbeTimes): ProbeSchedule => ({
  initialDelayMs: probeDelayMs,
  periodMs: probeEveryMs,
  failuresMax: probeFailuresMax,
});

const settingsOf = (section: MonitorSection): MonitorSettings => ({
  rateHz: section.rateHz,
  limits: { ...defaultDetectorLimits, ...limitsOf(section) },
});

function countersTold({ counters }: MonitorView): Known<CountersTold> {
  const { kind, why, advice } = counters;
  const reason = advice === "" ? why : `${why}; ${advice}`;
  return kind === "none" ? unknown(reason) : { known: true, value: { kind, why: reason } };
}
