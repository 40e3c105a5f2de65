// SPDX-License-Identifier: Apache-2.0
/**
 * The monitor, its socket and the words to the service manager, opened together for a supervisor: one line of wiring. Gets the supervisor's parts; gives what
 * is to hear its notices.
 */
import type { Clock } from "#clock.ts";
import { limitsOf, type MonitorSection } from "#config/monitorSection.ts";
import type { MonitorView } from "#health.ts";
import type { Log } from "#log.ts";
import type { MetricSample } from "#metrics.ts";
import { defaultDetectorLimits } from "#monitor/detectors/limits.ts";
import type { MonitorSettings } from "#monitor/monitor.ts";
import { defaultSchedule } from "#monitor/probeRunner.ts";
import { type Probe, parseProbe } from "#monitor/probes.ts";
import { type CountersTold, type Known, unknown } from "#status/told.ts";
import type { Storage } from "#storage/storage.ts";
import { TaskGroup } from "#tasks.ts";
import type { Hearers } from "./hearers.ts";
import { LaneWatch } from "./laneWatch.ts";
import { Monitoring } from "./monitoring.ts";
import type { Notice, Notices } from "./notices.ts";
import { ServiceChain, type ServiceCheck } from "./serviceChain.ts";
import { openViewSocket } from "./viewSocket.ts";

/** Beyond these we would rather be started again. */
const lagMsMax = 8_000;
const beatMsMax = 20_000;

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

/** What a section of the configuration says of its probes. */
export type ProbedSection = {
  readonly name: string;
  readonly probes: readonly string[];
  readonly probeDelayMs?: number;
  readonly bootMs?: number;
  readonly probeFailuresMax: number;
};

export type OpenedMonitoring = AsyncDisposable & {
  readonly monitoring: Monitoring;
  /** Is to hear of each stop that a lane works on. */
  readonly lanes: LaneWatch;
  /** All that was asked for has begun: the service manager is told, and pinged from now on. */
  readonly ready: () => void;
  readonly view: () => MonitorView;
  /** What the status page tells of it. */
  readonly told: {
    readonly metrics: () => readonly MetricSample[];
    readonly counters: () => Known<CountersTold>;
    readonly view: () => MonitorView;
  };
  /** These samples are part of the metrics too; where both have one, ours counts. */
  readonly join: (metrics: () => readonly MetricSample[]) => void;
  /** Asks the probes of a workload by their words, at the usual times. */
  readonly watchProbes: (workload: string, words: readonly string[]) => void;
  /** The probes of a section for whoever asks them: each answer is told here too. */
  readonly probesOf: (section: ProbedSection) => readonly Probe[];
};

export function openMonitoring(options: OpenMonitoringOptions): OpenedMonitoring {
  const { section, storage, notices, clock, log, directory, runDirectory, hearers } = options;
  const tell = (notice: Notice): void => notices.tell(notice);
  const monitoring = new Monitoring({
    ...(section === undefined ? {} : { settings: settingsOf(section) }),
    ...{ storage, clock, log, tell, places: ["/", directory] },
  });
  const lanes = new LaneWatch(clock);
  const chain = new ServiceChain({
    ...{ environment: process.env, pid: process.pid, clock, log },
    checks: [loopCheck(monitoring), samplerCheck(monitoring, clock), lanes.check],
  });
  const tasks = new TaskGroup();
  tasks.start((signal) => chain.run(signal));
  const hearing = hearers.add((notice) => {
    monitoring.hear(notice);
    if (notice.event === "guarding") chain.ready();
  });
  const { monitor } = monitoring;
  const sources = { view: () => monitor.view(), metrics: monitor.registry.collect };
  const socket = openViewSocket(runDirectory, sources, (why) => log("warn", "monitor.noSocket", { why }));
  return {
    monitoring,
    lanes,
    ready: () => chain.ready(),
    view: sources.view,
    told: {
      metrics: () => [...monitor.registry.collect()],
      counters: () => countersTold(monitor.view()),
      view: sources.view,
    },
    join: (metrics) => void monitor.registry.source(metrics),
    watchProbes: (workload, words) => {
      const probes = words.map((name) => ({ name, probe: parseProbe(name) }));
      monitoring.probe(workload, probes, defaultSchedule);
    },
    probesOf: ({ name, probes, probeFailuresMax, probeDelayMs = 0, bootMs = probeDelayMs }) =>
      monitoring.observed(name, probes, { failuresMax: probeFailuresMax, patienceMs: bootMs }),
    async [Symbol.asyncDispose]() {
      hearing[Symbol.dispose]();
      await tasks[Symbol.asyncDispose]();
      chain[Symbol.dispose]();
      await socket?.[Symbol.asyncDispose]();
      await monitoring[Symbol.asyncDispose]();
    },
  };
}

/** The pings come from the main loop, so it turns; but does it turn well? */
const loopCheck = ({ lag }: Monitoring): ServiceCheck => ({
  name: "main loop",
  check: () =>
    lag.longestMs < lagMsMax ? null : `it was held for ${Math.round(lag.longestMs)} ms within the last 10 s`,
});

/** A round is a second; where the Worker stands still, nothing is seen any more. */
function samplerCheck({ monitor }: Monitoring, clock: Clock): ServiceCheck {
  let [beats, sinceNs] = [-1, clock.monotonicNs()];
  return {
    name: "monitor",
    check: () => {
      const nowNs = clock.monotonicNs();
      if (monitor.beats !== beats) [beats, sinceNs] = [monitor.beats, nowNs];
      const stoodMs = (nowNs - sinceNs) / 1e6;
      return stoodMs < beatMsMax ? null : `its Worker stands still for ${Math.round(stoodMs)} ms`;
    },
  };
}

const settingsOf = (section: MonitorSection): MonitorSettings => ({
  rateHz: section.rateHz,
  limits: { ...defaultDetectorLimits, ...limitsOf(section) },
});

function countersTold({ counters }: MonitorView): Known<CountersTold> {
  const { kind, why, advice } = counters;
  const reason = advice === "" ? why : `${why}; ${advice}`;
  return kind === "none" ? unknown(reason) : { known: true, value: { kind, why: reason } };
}
