// SPDX-License-Identifier: Apache-2.0
/**
 * This supervisor in its fleet: what it tells, what it does when told, what it learns of others. Gets a section of the
 * configuration and the parts of the supervisor; runs until it is disposed. Without a section it is never opened.
 *
 *     journal ──tally──▶ workloads, totals ──▶ birth, state, metrics ──▶ broker
 *     rescue book ◀──hints, lessons──▶ herd            requests ──▶ verbs ──▶ result
 *
 * Nothing here is asked while a thread is stopped, but for hints, which come from memory.
 */
import type { Clock, Random } from "#clock.ts";
import type { TelemetrySection } from "#config/telemetrySection.ts";
import type { MonitorView } from "#health.ts";
import type { Log } from "#log.ts";
import { type MetricSample, metricDefinition, metricGroups } from "#metrics.ts";
import type { Storage } from "#storage/storage.ts";
import { TaskGroup } from "#tasks.ts";
import { bootEvent } from "#telemetry/events.ts";
import type { Alarm } from "#telemetry/payloads.ts";
import { StoredFeed } from "#telemetry/storedFeed.ts";
import { StoredOutbox } from "#telemetry/storedOutbox.ts";
import { Telemetry } from "#telemetry/telemetry.ts";
import { TrustList } from "#telemetry/trust.ts";
import type { VerbScalar } from "#verbs.ts";
import { LiveSettings, wholeSetting, wordsSetting } from "../liveSettings.ts";
import type { RescueBook } from "../rescue/rescueBook.ts";
import { policyRungs, type SuppressionSwitch } from "../suppressionSwitch.ts";
import type { Machine } from "../update/machine.ts";
import { executeVerb, noSlots, type VerbPorts, type WorkloadOrders } from "../verbs.ts";
import { readStandingFacts } from "./boxFacts.ts";
import { FleetUpdates } from "./fleetUpdates.ts";
import { Herd } from "./herd.ts";
import { Reboots } from "./reboots.ts";
import { uplinkSettings } from "./uplinkSettings.ts";
import { WorkloadStates } from "./workloadStates.ts";

export type UplinkOptions = {
  readonly section: TelemetrySection;
  /** The journal's cursor when this supervisor began. */
  readonly since: number;
  readonly storage: Storage;
  /** The state directory of that storage. */
  readonly directory: string;
  readonly rescues: RescueBook;
  readonly orders: WorkloadOrders;
  readonly suppression: SuppressionSwitch;
  /** What the configuration says, by dotted path; shown, never changed. */
  readonly configuration: Readonly<Record<string, VerbScalar>>;
  /** What the monitor sees. */
  readonly view: () => MonitorView;
  /** All metrics of this supervisor, those of telemetry itself among them. */
  readonly metrics: () => readonly MetricSample[];
  /** Fingerprint of the status page's certificate, once it listens; null where it has none. */
  readonly pageFingerprint: () => string | null;
  /** Where this supervisor looks after the whole machine; null where it guards one program. */
  readonly machine: Machine | null;
  readonly version: string;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
};

const tallyRows = 512;
const statusMs = 1_000;
/** A program that starts, or whose stub is replaced, is unprotected for less. */
const unprotectedLooks = 5;
/** 2025-01-01: a clock that shows less was never set. */
const clockSetFromMs = 1_735_689_600_000;

export class Uplink implements AsyncDisposable {
  readonly telemetry: Telemetry;
  readonly #options: UplinkOptions;
  readonly #tasks = new TaskGroup();
  readonly #workloads = new WorkloadStates();
  readonly #herd: Herd;
  readonly #settings: LiveSettings;
  readonly #reboots: Reboots;
  readonly #fleetUpdates: FleetUpdates | null;
  readonly #outbox: StoredOutbox;
  readonly #standing = readStandingFacts();
  #metricsEveryMs: number;
  #told = "";
  #toldPage: string | null = null;

  /** @throws ConfigError config.value for a section that cannot work, TelemetryError telemetry.settings */
  static async open(options: UplinkOptions): Promise<Uplink> {
    const { storage, directory, clock, log } = options;
    // Before anything is opened: a wrong file is told at once.
    uplinkSettings(options.section, "off");
    const outbox = await StoredOutbox.open({ storage, directory, clock, log });
    return new Uplink(options, outbox, new StoredFeed(storage, directory));
  }

  private constructor(options: UplinkOptions, outbox: StoredOutbox, feed: StoredFeed) {
    const { section, storage, clock, random, log, version, rescues } = options;
    this.#options = options;
    this.#outbox = outbox;
    const believesFleet = new TrustList(outbox).all().some(({ use }) => use === "fleet");
    const settings = uplinkSettings(section, believesFleet ? "use" : "off");
    const { boot } = this.#standing;
    storage.event(bootEvent, "", { boot });
    this.telemetry = Telemetry.open({
      ...{ settings, outbox, feed, boot, version, clock, random, log },
      herdTimes: { quietMs: section.herdQuietMs },
      about: () => ({ sw: version, uptime_s: Math.floor(process.uptime()) }),
      clockKnown: () => clock.wallMs() >= clockSetFromMs,
    });
    this.#metricsEveryMs = section.metricsEveryMs;
    this.#settings = new LiveSettings(this.#liveSettings(), options.configuration, storage, clock);
    this.#settings.changed = () => this.#tellSettings();
    const { machine } = options;
    this.#reboots = new Reboots(storage, boot, machine?.restart ?? null);
    const changed = (): void => this.#tellBirth();
    const updates = machine?.updates ?? null;
    this.#fleetUpdates =
      updates === null ? null : new FleetUpdates({ updates, telemetry: this.telemetry, clock, changed, section });
    this.#herd = new Herd({ telemetry: this.telemetry, mode: settings.herd, storage, clock, changed });
    rescues.join(this.#herd);
    for (const record of rescues.records) this.#herd.tell(record);
    this.#start(feed);
  }

  get failed(): Promise<never> {
    return Promise.race([this.#tasks.failed, this.telemetry.failed]);
  }

  /** Writes into the outbox and waits until it is durable. @throws StorageError */
  async proveOutbox(signal: AbortSignal): Promise<void> {
    this.#outbox.putNote("session", "proof", String(this.#options.clock.wallMs()));
    await this.#outbox.flush(signal);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#fleetUpdates?.[Symbol.dispose]();
    await this.#tasks[Symbol.asyncDispose]();
    await this.telemetry[Symbol.asyncDispose]();
  }

  #start(feed: StoredFeed): void {
    this.#tellBirth();
    this.#tellSettings();
    this.#reboots.settle((job, result) => this.telemetry.settle(job, result));
    this.#tasks.start((signal) => this.#follow(feed, signal));
    this.#tasks.start((signal) => this.#sendMetrics(signal));
    this.#tasks.start((signal) => this.#watchHealth(signal));
    this.#tasks.start((signal) => this.#herd.run(signal));
    this.#tasks.start((signal) => this.#settings.run(signal));
    this.#tasks.start((signal) => this.#doRequests(signal));
  }

  async #follow(feed: StoredFeed, signal: AbortSignal): Promise<void> {
    let cursor = this.#options.since;
    for await (const newest of feed.commits(signal)) {
      let changed = false;
      while (cursor < newest) {
        const rows = feed.read(cursor, tallyRows) ?? [];
        for (const row of rows) changed = this.#workloads.take(row) || changed;
        const last = rows.at(-1);
        if (last === undefined) break;
        cursor = last.n;
      }
      if (changed) this.#tellBirth();
    }
  }

  async #sendMetrics(signal: AbortSignal): Promise<void> {
    for (;;) {
      const atMs = this.#options.clock.wallMs();
      const samples = this.#options.metrics();
      for (const group of metricGroups) {
        const ofGroup = samples.filter(({ name }) => metricDefinition(name).group === group);
        if (ofGroup.length > 0) this.telemetry.metrics({ group, atMs, samples: ofGroup });
      }
      await this.#options.clock.sleep(this.#metricsEveryMs, signal);
    }
  }

  /** Health and alarms, from what storage and the monitor say. */
  async #watchHealth(signal: AbortSignal): Promise<void> {
    const { clock, storage, view, pageFingerprint } = this.#options;
    let looksUnprotected = 0;
    for (;;) {
      await clock.sleep(statusMs, signal);
      if (pageFingerprint() !== this.#toldPage) this.#tellBirth();
      const { kind, why } = storage.state();
      this.#alarm("storage", kind === "normal" && why === "" ? null : storageAlarm(kind, why));
      const unprotected = this.#workloads.all.filter((one) => one.up && !one.protected);
      looksUnprotected = unprotected.length === 0 ? 0 : looksUnprotected + 1;
      this.#alarm(
        "unprotected",
        looksUnprotected < unprotectedLooks ? null : unprotectedAlarm(unprotected.map(({ name }) => name)),
      );
      const raised = view().detections.filter((one) => one.kind === "raised");
      const first = raised[0];
      this.#alarm("rollback", this.#fleetUpdates?.alarm ?? null);
      this.#alarm("detected", first === undefined ? null : detectedAlarm(first.workload, first.text, raised.length));
      const ill = kind !== "normal" || this.#workloads.all.some((one) => !one.up);
      this.telemetry.health(ill ? "degraded" : this.telemetry.alarms.length > 0 ? "attention" : "ok");
    }
  }

  #alarm(name: string, facts: AlarmWords | null): void {
    if (facts === null) this.telemetry.clear(name);
    else if (this.telemetry.alarms.find(({ alarm }) => alarm === name)?.cause !== facts.cause)
      this.telemetry.raise(name, facts);
  }

  async #doRequests(signal: AbortSignal): Promise<void> {
    const ports: VerbPorts = {
      ...{ orders: this.#options.orders, suppression: this.#options.suppression, settings: this.#settings },
      diagnose: () => this.#diagnose(),
      maintenance: (on, by, forMs) => {
        if (this.#fleetUpdates === null) this.telemetry.maintenance(on);
        else this.#fleetUpdates.hold(on, by, forMs);
      },
      reboot: this.#reboots.order,
      update: this.#fleetUpdates ?? noSlots,
      wipe: this.#wipe(),
      wait: (delayMs, ended) => this.#options.clock.sleep(delayMs, ended),
      later: (delayMs, act) =>
        this.#tasks.start(async (ended) => {
          await this.#options.clock.sleep(delayMs, ended);
          await act();
        }),
    };
    for await (const job of this.telemetry.requests(signal)) {
      // A long one holds up no other.
      this.#tasks.start(() => executeVerb(job, ports));
    }
  }

  /** Of a flashed box alone. */
  #wipe(): (() => void) | null {
    const { machine } = this.#options;
    return machine === null || machine.updates === null ? null : () => machine.wipe();
  }

  #diagnose(): Readonly<Record<string, VerbScalar>> {
    const { storage, version } = this.#options;
    const { kind, why, queuedRows, freeBytes } = storage.state();
    const workloads = this.#workloads.all;
    return {
      ...{ sw: version, uptime_s: Math.floor(process.uptime()), rss_bytes: process.memoryUsage.rss() },
      ...{ storage: kind, storage_why: why.slice(0, 200), queued_rows: queuedRows, free_bytes: freeBytes ?? -1 },
      ...{ workloads: workloads.length, protected: workloads.filter((one) => one.protected).length },
      ...{
        rescue_records: this.#options.rescues.records.length,
        fleet_hints: this.#herd.hintCount,
        journal: storage.durableCursor,
      },
      ...{ alarms: this.telemetry.alarms.map(({ alarm }) => alarm).join(",") },
    };
  }

  #tellBirth(): void {
    const { version, view, machine, pageFingerprint } = this.#options;
    const { kind, why } = view().counters;
    this.#toldPage = pageFingerprint();
    const workloads = this.#workloads.all.map(({ name, kind: what, protected: isProtected }) => {
      const program = this.#herd.programs.get(name);
      const known =
        program === undefined || program.build === "" ? {} : { prog: program.program, build: program.build };
      return { w: name, kind: what, protected: isProtected, ...known };
    });
    this.telemetry.birth({
      ...{ ...this.#standing, sw: version, reason: machine?.bootReason ?? this.#reboots.reason, workloads },
      ...(this.#fleetUpdates?.birthWords ?? { slot: "none" }),
      counters: why === "" ? { kind } : { kind, why },
      ...(this.#toldPage === null ? {} : { page: this.#toldPage }),
    });
  }

  #tellSettings(): void {
    const effective = this.#settings.effective();
    const gist = JSON.stringify(effective);
    if (gist === this.#told) return;
    this.#told = gist;
    this.telemetry.config(effective, false);
  }

  #liveSettings(): ConstructorParameters<typeof LiveSettings>[0] {
    const { section, suppression } = this.#options;
    return {
      "telemetry.metricsEveryMs": {
        usual: section.metricsEveryMs,
        check: wholeSetting(1_000, 3_600_000),
        apply: (value) => {
          this.#metricsEveryMs = Number(value);
        },
      },
      "suppression.rungsOff": {
        usual: "",
        check: wordsSetting(policyRungs),
        apply: (value) => {
          suppression.rungsOff = new Set(policyRungs.filter((rung) => String(value).split(",").includes(rung)));
        },
      },
    };
  }
}

type AlarmWords = Omit<Alarm, "v" | "alarm" | "since">;
const causeMax = 200;

const storageAlarm = (kind: string, why: string): AlarmWords => ({
  ...{ sev: kind === "blind" ? 3 : 2, cause: (why || kind).slice(0, causeMax) },
  effect: kind === "blind" ? "faults are survived but not recorded" : "less is kept",
  fix: "make room on the disk of the state directory, or replace it",
});

const unprotectedAlarm = (names: readonly string[]): AlarmWords => ({
  ...{ sev: 3, cause: `not protected: ${names.join(", ")}`.slice(0, causeMax) },
  effect: "a crash of these ends them",
  fix: "see holdfast faults and the log of the supervisor on the box",
});

const detectedAlarm = (workload: string, text: string, count: number): AlarmWords => ({
  ...{ sev: 2, cause: `${workload}: ${text}`.slice(0, causeMax) },
  effect: count === 1 ? "the workload may serve badly" : `the workload may serve badly; ${count} such findings in all`,
  fix: "see holdfast top on the box",
});
