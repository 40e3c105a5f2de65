// SPDX-License-Identifier: Apache-2.0
/**
 * The status page of a running supervisor: what it is told, what it may ask for, and what is said of it on the console.
 *
 * Parts that this version does not have are told as such, with the reason. A page that cannot open is a warning: guarding
 * does not depend on it.
 */
import { hostname } from "node:os";
import type { Clock } from "#clock.ts";
import type { StatusSection } from "#config/schema.ts";
import type { MonitorView } from "#health.ts";
import type { MetricSample } from "#metrics.ts";
import type { StatusSettings } from "#status/settings.ts";
import { type Known, type Told, unknown, type WorkloadTold } from "#status/told.ts";
import type { Storage } from "#storage/storage.ts";
import type { VerbRequest, VerbResult } from "#verbs.ts";
import { statusOf } from "../guardOptions.ts";
import type { Notices } from "../notices.ts";
import type { SuppressionSwitch } from "../suppressionSwitch.ts";
import { MachineTold } from "./machineTold.ts";
import type { WorkloadBook } from "./workloadBook.ts";
import type { WorkloadsTold } from "./workloadsTold.ts";

export type PageOptions = {
  readonly settings: StatusSettings;
  readonly directory: string;
  readonly storage: Storage;
  readonly clock: Clock;
  readonly version: string;
  readonly mode: "guard" | "run";
  readonly book: WorkloadBook;
  readonly notices: Notices;
  /** Workloads beside those of the book, such as guests. */
  readonly more?: (nowMs: number) => readonly WorkloadTold[];
  /** Where it is switched off, that is shown. */
  readonly suppression: SuppressionSwitch;
  readonly perform?: (request: VerbRequest) => Promise<VerbResult>;
  readonly view?: () => MonitorView;
  readonly metrics?: () => readonly MetricSample[];
  readonly uplink?: () => Told["uplink"];
  readonly counters?: () => Told["counters"];
  readonly checkpoints?: () => Told["checkpoints"];
  /** Where the whole machine is looked after. */
  readonly machine?: MachineTold;
};

const without = (part: string): (() => Known<never>) => {
  const told = unknown(part);
  return () => told;
};
const absent = {
  uplink: without("no uplink is configured for this supervisor"),
  counters: without("this supervisor samples no hardware counters"),
  checkpoints: without("this supervisor takes no checkpoints"),
};

/** What a page says that may ask for nothing. */
const notHere: VerbResult = { kind: "failed", why: "nothing can be asked for here" };
const noMachine: MachineTold = new MachineTold(null);

/** Whoever has no page loads nothing of it. */
export async function openPage(options: PageOptions): Promise<AsyncDisposable> {
  const { StatusPage } = await import("#status/statusPage.ts");
  const { settings, directory, storage, clock, notices, perform } = options;
  const workload = notices.workload;
  const host = hostname();
  return new StatusPage({
    settings,
    directory,
    names: [host, `${host.split(".")[0]}.local`],
    clock,
    collect: collector(options, host),
    perform: async (request) =>
      perform === undefined ? { kind: "failed", why: "nothing can be asked for here" } : await perform(request),
    audit: ({ event, who, from, facts }) => storage.event(event, "", { who, from, ...facts }),
    listening: ({ url, fingerprint, claim }) => notices.tell({ event: "status", workload, url, fingerprint, claim }),
    failed: (why) => notices.tell({ event: "warning", workload, text: `no status page: ${why}` }),
  });
}

/** The page of a configuration, with its guests and programs; null where there is to be none. @throws ConfigError */
export async function openPageOf(
  section: StatusSection | null,
  options: Omit<PageOptions, "settings">,
  workloads: WorkloadsTold,
): Promise<AsyncDisposable | null> {
  const settings = statusOf(section);
  if (settings === null) return null;
  return await openPage({
    ...{ ...options, settings },
    more: (nowMs) => workloads.collect(nowMs),
    perform: async (request) =>
      (await options.machine?.perform(request)) ?? (await options.perform?.(request)) ?? notHere,
    checkpoints: () => workloads.checkpoints(),
  });
}

function collector(options: PageOptions, box: string): () => Told {
  const { storage, clock, version, mode, book, more, metrics, machine } = options;
  const startedMs = clock.wallMs();
  const parts = { ...absent, ...options };
  return () => {
    const atMs = clock.wallMs();
    return {
      atMs,
      box,
      version,
      runtime: `Bun ${Bun.version}`,
      mode,
      startedMs,
      pid: process.pid,
      workloads: joined(
        more?.(atMs) ?? [],
        book.programs.map((each) => ordered(each, options)),
      ),
      storage: storage.state(),
      cursor: storage.durableCursor,
      uplink: parts.uplink(),
      counters: parts.counters(),
      checkpoints: parts.checkpoints(),
      ...(machine ?? noMachine).collect(),
      monitor: lookOf(options.view?.() ?? null),
      warnings: book.warnings,
      metrics: metrics?.() ?? [],
    };
  };
}

function lookOf(view: MonitorView | null): Told["monitor"] {
  if (view === null) return null;
  const { atMs, host, hostBefore = null, detections, workloads } = view;
  return { atMs, host, hostBefore, detections, counters: workloads.flatMap(({ counters }) => counters ?? []) };
}

/** A program in the foreground: it can be started anew, and its faults passed on for a while. */
function ordered(told: WorkloadTold, { suppression, perform }: PageOptions): WorkloadTold {
  const suppressionOff = suppression.isOff(told.name);
  const asked = told.protected ? (["workload.restart"] as const) : [];
  const verbs = [...asked, suppressionOff ? ("suppression.on" as const) : ("suppression.off" as const)];
  return {
    ...{ ...told, suppressionOff, protected: told.protected && !suppressionOff },
    verbs: perform === undefined || told.state === "ended" ? [] : verbs,
  };
}

/** What a lane says of a program goes before what was heard of it. */
function joined(lanes: readonly WorkloadTold[], heard: readonly WorkloadTold[]): WorkloadTold[] {
  const threads = new Map(heard.map((each) => [each.name, each.threads]));
  const known = new Set(lanes.map(({ name }) => name));
  return [
    ...lanes.map((each) => ({ ...each, threads: each.threads ?? threads.get(each.name) ?? null })),
    ...heard.filter(({ name }) => !known.has(name)),
  ];
}
