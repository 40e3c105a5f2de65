// SPDX-License-Identifier: Apache-2.0
/**
 * Telemetry as the appliance sees it. Gets settings, a journal to pull from and an outbox; tells the fleet about this box,
 * yields verified commands, and holds what other boxes learned. It pulls: nothing here can hold up a fault, and while the
 * broker is away everything waits on the disk.
 *
 *     journal ──pump──▶ outbox ──publisher──▶ broker ──▶ commands ──▶ requests()          appliance executes them
 *     metrics ──live──▶ broker (or outbox)         └──▶ rescue records ──▶ hints()        read when a program is adopted
 */
import type { Clock, Random } from "#clock.ts";
import type { Verdict } from "#fault.ts";
import type { Log } from "#log.ts";
import type { MetricSample } from "#metrics.ts";
import { aborted, TaskGroup } from "#tasks.ts";
import type { VerbJob, VerbResult } from "#verbs.ts";
import { Bell } from "./bell.ts";
import { type ClockMark, withMark } from "./bootTime.ts";
import { type AlarmFacts, type BoxFacts, BoxWords, type SettingValue } from "./box.ts";
import { CommandDesk } from "./commandDesk.ts";
import { DenyDesk } from "./denyDesk.ts";
import type { JournalFeed } from "./feed.ts";
import { type FleetHint, FleetRecords } from "./fleetRecords.ts";
import { HerdIdentity } from "./herdIdentity.ts";
import { HerdPublisher, type Learned } from "./herdPublisher.ts";
import { Jobs } from "./jobs.ts";
import { JournalPump } from "./journalPump.ts";
import { KeptTopics, keptTopicsMax } from "./kept.ts";
import type { Link, ReceivedMessage } from "./link.ts";
import { LinkAlarms } from "./linkAlarms.ts";
import { AckTimes, DropCounter, type LinkState, linkSamples } from "./linkMetrics.ts";
import { LiveMetrics, type MetricBatch } from "./liveMetrics.ts";
import type { Outbox } from "./outbox.ts";
import { doOwnVerb, isOwnVerb } from "./ownVerbs.ts";
import type { Alarm, Health, TimeQuality } from "./payloads.ts";
import { Publisher } from "./publisher.ts";
import { Queue } from "./queue.ts";
import { Session } from "./session.ts";
import { brokerAddress, type TelemetrySettings } from "./settings.ts";
import { BoxTopics, readTopic } from "./topics.ts";
import { TrustList } from "./trust.ts";

/** Builds whose records are followed. */
export const followedBuildsMax = 16;
const usedTrialsMax = 1024;
const sweepMs = 10_000;

export type TelemetryOptions = {
  readonly settings: TelemetrySettings;
  readonly outbox: Outbox;
  readonly feed: JournalFeed;
  /** Id of this boot. */
  readonly boot: string;
  readonly version: string;
  /** Small facts for `ping`. */
  readonly about: () => Readonly<Record<string, string | number | boolean>>;
  /** True where the clock is set right. */
  readonly clockKnown: () => boolean;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  /** Shorter in tests. */
  readonly stateRepeatMs?: number;
  readonly herdTimes?: Pick<ConstructorParameters<typeof HerdPublisher>[0], "quietMs" | "siteIntervalMs" | "repeatMs">;
};

export class Telemetry implements AsyncDisposable {
  readonly topics: BoxTopics;
  readonly #options: TelemetryOptions;
  readonly #bell = new Bell();
  readonly #tasks: TaskGroup;
  readonly #kept: KeptTopics;
  readonly #jobs: Jobs;
  readonly #desk: CommandDesk;
  readonly #trust: TrustList;
  readonly #records: FleetRecords;
  readonly #identity: HerdIdentity;
  readonly #herd: HerdPublisher;
  readonly #pump: JournalPump;
  readonly #live: LiveMetrics;
  readonly #words: BoxWords;
  readonly #alarms: LinkAlarms;
  readonly #deny: DenyDesk;
  readonly #session: Session;
  readonly #requests = new Queue<VerbJob>(64);
  readonly #acks = new AckTimes();
  readonly #drops = new DropCounter();
  readonly #builds = new Set<string>();
  readonly #buildsChanged = new Bell();
  readonly #changed = new Bell();
  readonly #usedTrials = new Set<string>();
  readonly #used = new Map<string, number>();
  #marks: readonly ClockMark[];
  #linkSinceMs = 0;
  #standing: "online" | "maintenance" = "online";
  #health: Health = "ok";

  /** Checks the settings and starts. @throws TelemetryError telemetry.settings */
  static open(options: TelemetryOptions, signal?: AbortSignal): Telemetry {
    const { broker } = options.settings;
    brokerAddress(broker);
    const telemetry = new Telemetry(options, signal);
    telemetry.#start();
    return telemetry;
  }

  private constructor(options: TelemetryOptions, signal?: AbortSignal) {
    const { settings, outbox, feed, boot, clock, random, log, clockKnown, version } = options;
    const { encoding } = settings;
    this.#options = options;
    this.#linkSinceMs = clock.wallMs();
    this.#tasks = new TaskGroup(signal);
    this.topics = new BoxTopics(settings.root, settings.device);
    this.#marks = JSON.parse(outbox.note("clock", "marks") ?? "[]") as ClockMark[];
    this.#kept = new KeptTopics(outbox, this.#bell, encoding === "both" ? 2 * keptTopicsMax : keptTopicsMax);
    const shared = { outbox, topics: this.topics, encoding, boot, clock };
    const nowSeconds = (): number => Math.floor(clock.wallMs() / 1000);
    // Records are judged with the list as it is; which keys are denied they know themselves.
    const known = new TrustList(outbox);
    this.#records = new FleetRecords(outbox, () => ({
      nowSeconds: nowSeconds(),
      clockKnown: clockKnown(),
      fleetKey: (id) => known.find(id),
    }));
    this.#trust = new TrustList(outbox, (id) => this.#records.isDenied(id));
    this.#identity = new HerdIdentity(outbox, settings.device);
    const herdShared = { records: this.#records, identity: this.#identity, topics: this.topics };
    this.#herd = new HerdPublisher({ ...herdShared, version, clock, random, log, clockKnown, ...options.herdTimes });
    this.#jobs = new Jobs({ ...shared, kept: this.#kept });
    this.#desk = new CommandDesk({ ...shared, feed, jobs: this.#jobs, trust: this.#trust, random, clockKnown });
    const marks = (): readonly ClockMark[] => this.#marks;
    this.#pump = new JournalPump({
      ...shared,
      feed,
      bell: this.#bell,
      marks,
      usedFleet: (trial) => this.#usedTrials.has(trial),
    });
    const quality = (): TimeQuality => (clockKnown() ? "synced" : "guess");
    this.#live = new LiveMetrics({ ...shared, keepAliveMs: settings.broker.keepAliveMs, quality });
    const herdKey = this.#identity.pair.public.raw;
    this.#words = new BoxWords({ ...shared, kept: this.#kept, discovery: settings.discovery, herdKey });
    this.#alarms = new LinkAlarms(this.#words, clock, settings.broker.certificate);
    this.#deny = new DenyDesk({ outbox, feed, trust: this.#trust, records: this.#records, clock, clockKnown });
    this.#session = new Session({
      ...{ settings, topics: this.topics, outbox, boot, clock, random, log },
      repeatMs: options.stateRepeatMs,
      receive: (message) => this.#receive(message),
      work: (link, workSignal) => this.#work(link, workSignal),
      changed: (trouble) => {
        this.#alarms.connection(trouble);
        this.#linkSinceMs = this.#options.clock.wallMs();
        this.#changed.ring();
      },
    });
  }

  #start(): void {
    if (this.#options.clockKnown()) this.clockSet(0);
    this.#tasks.start((signal) => this.#pump.run(signal));
    this.#tasks.start((signal) => this.#session.run(signal));
    this.#tasks.start((signal) => this.#desk.run(signal));
    this.#tasks.start((signal) => this.#doRequests(signal));
    this.#tasks.start((signal) => this.#ringOnCommits(signal));
    this.#tasks.start((signal) => this.#sweep(signal));
  }

  /** Rejects with the first bug in a task of telemetry. */
  get failed(): Promise<never> {
    return this.#tasks.failed;
  }
  get connected(): boolean {
    return this.#session.connected;
  }
  /** The link as a person wants to know it. Times are wall clock, ms. */
  get linkState(): LinkState {
    const trouble = this.#words.alarms.find(({ alarm }) => alarm.startsWith("broker."));
    const { rows, oldestMs } = this.#options.outbox.depth("event");
    return {
      ...{ connected: this.connected, sinceMs: this.#linkSinceMs, why: trouble?.cause ?? null },
      ...{ lastAckMs: this.#acks.lastMs, waitingMessages: rows, oldestMs },
      ...{
        droppedRows: this.#drops.totals.event + this.#drops.totals.metric,
        certificateEndsMs: this.#alarms.certificateEndsMs,
      },
    };
  }
  get alarms(): readonly Alarm[] {
    return this.#words.alarms;
  }
  /** Yields whenever the connection, an alarm or the outbox may have changed. One reader. */
  async *changes(signal: AbortSignal): AsyncGenerator<void> {
    for (;;) {
      yield;
      await this.#changed.wait(signal);
    }
  }
  /** The public key under which this box signs rescue records. */
  get herdKey(): Uint8Array {
    return this.#identity.pair.public.raw;
  }

  /** Verified requests that the appliance is to execute. One reader. */
  requests(signal: AbortSignal): AsyncIterable<VerbJob> {
    return this.#requests.read(signal);
  }
  /** Ends a job that outlived the process which began it (reboot, update). */
  settle(job: string, result: VerbResult): Promise<void> {
    return this.#desk.settle(job, result);
  }

  /** Jobs that are not over, those that wait for us among them. */
  get openJobs(): readonly { readonly id: string; readonly verb: string }[] {
    return this.#jobs.open.map(({ payload: { id, verb } }) => ({ id, verb }));
  }

  birth(facts: BoxFacts): void {
    this.#words.birth(facts);
    this.#words.clearOld();
  }
  config(settings: Readonly<Record<string, SettingValue>>, restartRequired: boolean): void {
    this.#words.config(settings, restartRequired);
  }
  raise(alarm: string, facts: AlarmFacts): void {
    this.#words.raise(alarm, facts);
  }
  clear(alarm: string): void {
    this.#words.clear(alarm);
  }
  health(health: Health): void {
    this.#health = health;
    this.#session.announce(this.#standing, health);
  }
  maintenance(on: boolean): void {
    this.#standing = on ? "maintenance" : "online";
    this.#session.announce(this.#standing, this.#health);
  }

  /** Sends or keeps one batch of metrics. Never waits. */
  metrics(batch: MetricBatch): void {
    this.#live.take(batch);
  }
  /** The metrics of telemetry itself, group `link`. */
  samples(): MetricSample[] {
    return linkSamples({
      ...{ outbox: this.#options.outbox, session: this.#session, desk: this.#desk, records: this.#records },
      ...{ publisher: this.#herd, acks: this.#acks, drops: this.#drops, used: this.#used },
      nowMs: this.#options.clock.wallMs(),
    });
  }

  /** The clock was set right in this boot, and jumped by this much (0: it was right from the start). */
  clockSet(jumpMs: number): void {
    const { boot, outbox, feed } = this.#options;
    if (this.#marks.some((mark) => mark.boot === boot)) return;
    this.#marks = withMark(this.#marks, { boot, n: jumpMs === 0 ? 0 : feed.cursor, jumpMs });
    outbox.putNote("clock", "marks", JSON.stringify(this.#marks));
    this.#bell.ring();
  }

  /** The builds of all guarded programs: their records are subscribed. At most 16, the first of the list. */
  follow(builds: readonly string[]): void {
    this.#builds.clear();
    for (const build of builds.slice(0, followedBuildsMax)) this.#builds.add(build);
    this.#buildsChanged.ring();
  }
  /** What the fleet learned about a build. Empty where the herd is off. In `watch` mode nothing is to be done with it. */
  hints(build: string): readonly FleetHint[] {
    return this.#options.settings.herd === "off" ? [] : this.#records.hints(build);
  }
  /** Builds whose hints changed. One reader. */
  hintChanges(signal: AbortSignal): AsyncIterable<string> {
    return this.#records.changes(signal);
  }
  /** This trial is made because of a hint: its outcome event will say so. Called before the outcome is written. */
  markUsed(trial: string): void {
    this.#usedTrials.add(trial);
    if (this.#usedTrials.size > usedTrialsMax) this.#usedTrials.delete(this.#usedTrials.values().next().value!);
  }
  /** What became of a hint here. `inapplicable`: no candidate of ours equals it. */
  noteOutcome(build: string, site: string, outcome: Verdict | "inapplicable"): void {
    this.#used.set(outcome, (this.#used.get(outcome) ?? 0) + 1);
    const held = this.#records.noteOutcome(build, site, outcome);
    if (held === null) return;
    const { author, record } = held;
    this.#options.feed.record("herd.failed", "", { build, site, author, rev: record.rev, outcome, severity: 2 });
  }
  /** What this box learned by its own trials; published when it is good enough, and never in `watch` or `off`. */
  learned(learned: Learned): void {
    if (this.#options.settings.herd === "use") this.#herd.learn(learned);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#tasks[Symbol.asyncDispose]();
  }

  async #work(link: Link, signal: AbortSignal): Promise<void> {
    const { topics } = this;
    const { settings, outbox, clock, log } = this.#options;
    await link.subscribe([topics.commands, topics.commandsToAll, topics.deny]);
    this.#kept.offerAll();
    this.#changed.ring();
    this.#live.begin(link);
    if (!link.sessionPresent)
      for (const build of this.#builds) for (const held of this.#records.held(build)) this.#herd.displaced(held);
    const publisher = new Publisher(link, {
      ...{ outbox, kept: this.#kept, bell: this.#bell, drainPerSecond: settings.drainPerSecond, clock, log },
      marks: () => this.#marks,
      reports: {
        acknowledged: (ackMs) => {
          this.#acks.add(ackMs, clock.wallMs());
          this.#alarms.acknowledged();
          this.#changed.ring();
        },
        refused: (code, topic) => {
          this.#alarms.refused(code, topic);
          this.#changed.ring();
        },
        undeliverable: (topic, why) =>
          this.#options.feed.record("health.undeliverable", "", { topic, why, severity: 2 }),
      },
    });
    const group = new TaskGroup(signal);
    try {
      group.start((inner) => publisher.run(inner));
      group.start((inner) => this.#followBuilds(link, inner));
      group.start((inner) => this.#herd.run(link, inner));
      await Promise.race([group.failed, link.ended, aborted(signal)]);
    } finally {
      await group[Symbol.asyncDispose]();
      this.#live.end(!this.#tasks.signal.aborted);
    }
  }

  /** Subscribes the records of each followed build once. */
  async #followBuilds(link: Link, signal: AbortSignal): Promise<void> {
    const subscribed = new Set<string>();
    for (;;) {
      const wanted =
        this.#options.settings.herd === "off" ? [] : [...this.#builds].filter((build) => !subscribed.has(build));
      await link.subscribe(wanted.map((build) => this.topics.rescueOf(build)));
      for (const build of wanted) subscribed.add(build);
      await this.#buildsChanged.wait(signal);
    }
  }

  async #receive(message: ReceivedMessage): Promise<void> {
    const received = readTopic(this.topics, message.topic);
    switch (received?.kind) {
      case "command":
        return this.#desk.receive({ ...received, payload: message.payload, retain: message.retain }, message);
      case "rescue":
        return this.#receiveRecord(received.build, received.site, message.payload);
      case "deny":
        return this.#deny.receive(message.payload);
      default:
        // Not one of our topics: a subscription of an earlier release, or a broker that does not filter.
        return;
    }
  }

  #receiveRecord(build: string, site: string, payload: Uint8Array): void {
    if (this.#options.settings.herd === "off" || !this.#builds.has(build)) return;
    const result = this.#records.receive(build, site, payload);
    const held = this.#records.get(build, site);
    if (result.kind === "loses" && held !== null) this.#herd.displaced(held);
    if (result.kind === "known" && payload.length > 0) this.#herd.seen(build, site);
  }

  async #doRequests(signal: AbortSignal): Promise<void> {
    const ports = {
      ...{ desk: this.#desk, jobs: this.#jobs, pump: this.#pump, trust: this.#trust },
      ...{ records: this.#records, identity: this.#identity, about: this.#options.about },
      rebirth: () => this.#words.rebirth(),
      nowSeconds: () => Math.floor(this.#options.clock.wallMs() / 1000),
    };
    for await (const job of this.#desk.requests(signal)) {
      if (isOwnVerb(job.request.verb)) await doOwnVerb(job, ports);
      else this.#requests.push(job);
    }
  }

  async #ringOnCommits(signal: AbortSignal): Promise<void> {
    for await (const _ of this.#options.outbox.commits(signal)) this.#bell.ring();
  }

  async #sweep(signal: AbortSignal): Promise<void> {
    const { clock, outbox, feed, clockKnown } = this.#options;
    for (;;) {
      if (clockKnown()) this.#alarms.certificate();
      const burst = this.#drops.take(outbox.takeDropped(), clock.monotonicNs() / 1e6);
      if (burst !== null) feed.record("health.outboxDropped", "", burst);
      this.#alarms.dropping(this.#drops.dropping);
      this.#changed.ring();
      await clock.sleep(sweepMs, signal);
    }
  }
}
