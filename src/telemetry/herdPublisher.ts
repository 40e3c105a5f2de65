// SPDX-License-Identifier: Apache-2.0
/**
 * Tells the fleet what was learned here. Gets what this box has learned and what was received; publishes a record when it
 * is good enough, quiet for long enough, and would win; repeats it when a loser displaced it or the broker forgot.
 *
 * Counts are this box's own trials only, never sums of others, so no outcome counts twice. 6 publishes an hour, 10 minutes
 * between two for a site, records valid for 90 days.
 */
import type { Clock, Random } from "#clock.ts";
import { TelemetryError } from "#errors.ts";
import type { Log } from "#log.ts";
import type { FleetRecords, HeldRecord } from "./fleetRecords.ts";
import type { HerdIdentity } from "./herdIdentity.ts";
import { contest, publishScoreMin, score } from "./herdOrder.ts";
import type { Link } from "./link.ts";
import { type RescueRecord, signRecord, siteName } from "./rescueRecord.ts";
import type { BoxTopics } from "./topics.ts";

export const publishesPerHour = 6;
export const siteIntervalMs = 600_000;
/** So long without a new fault at the site before a record goes out. */
export const quietMs = 300_000;
const repeatLeastMs = 5_000;
const repeatMostMs = 60_000;
const validSeconds = 90 * 86_400;
const hourMs = 3_600_000;
const learnedMax = 256;
const tickMs = 1_000;
const countMax = 1000;

/** What this box knows by its own trials about one site. */
export type Learned = Omit<
  RescueRecord,
  "block" | "rev" | "device" | "version" | "issuedAt" | "expiresAt" | "grant"
> & {
  /** Wall clock of the last fault at the site. */
  readonly lastFaultMs: number;
};

export type HerdPublisherOptions = {
  readonly records: FleetRecords;
  readonly identity: HerdIdentity;
  readonly topics: BoxTopics;
  readonly version: string;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  readonly clockKnown: () => boolean;
  /** Shorter in tests. */
  readonly quietMs?: number;
  readonly siteIntervalMs?: number;
  readonly repeatMs?: readonly [number, number];
};

export class HerdPublisher {
  readonly #options: HerdPublisherOptions;
  readonly #learned = new Map<string, Learned>();
  readonly #sentMs = new Map<string, number>();
  readonly #repeats = new Map<string, number>();
  #recentMs: number[] = [];
  published = 0;

  constructor(options: HerdPublisherOptions) {
    this.#options = options;
  }

  /** New evidence of this box about a site. */
  learn(learned: Learned): void {
    const key = `${learned.build}/${siteName(learned.fault, learned.boundary)}`;
    this.#learned.delete(key);
    this.#learned.set(key, learned);
    if (this.#learned.size > learnedMax) this.#learned.delete(this.#learned.keys().next().value!);
  }

  /** Another record stands on the topic of a record of ours that beats it. */
  displaced(held: HeldRecord): void {
    if (held.author !== this.#options.identity.pair.public.id) return;
    const { random, repeatMs = [repeatLeastMs, repeatMostMs] } = this.#options;
    const key = `${held.record.build}/${held.site}`;
    const waitMs = repeatMs[0] + random() * (repeatMs[1] - repeatMs[0]);
    if (!this.#repeats.has(key)) this.#repeats.set(key, this.#nowMs() + waitMs);
  }

  /** Our record was seen on its topic. */
  seen(build: string, site: string): void {
    this.#repeats.delete(`${build}/${site}`);
  }

  /** Publishes what is due, on this link, until the signal. */
  async run(link: Link, signal: AbortSignal): Promise<void> {
    for (;;) {
      await this.#options.clock.sleep(tickMs, signal);
      for (const [key, atMs] of this.#repeats) if (atMs <= this.#nowMs()) await this.#repeat(link, key);
      for (const [key, learned] of this.#learned) await this.#offer(link, key, learned);
    }
  }

  async #repeat(link: Link, key: string): Promise<void> {
    this.#repeats.delete(key);
    const [build = "", site = ""] = key.split("/");
    const held = this.#options.records.get(build, site);
    if (held !== null && held.author === this.#options.identity.pair.public.id)
      await this.#send(link, key, held.signed);
  }

  async #offer(link: Link, key: string, learned: Learned): Promise<void> {
    const { records, identity, clock, clockKnown } = this.#options;
    const grant = identity.grant;
    const quiet = clock.wallMs() - learned.lastFaultMs >= (this.#options.quietMs ?? quietMs);
    if (grant === null || !clockKnown() || !quiet) return;
    const [build = "", site = ""] = key.split("/");
    const held = records.get(build, site);
    const own = held !== null && held.author === identity.pair.public.id;
    // What we have said before is set right, even if it is worse now; what is new must be good enough.
    if (own ? sameEvidence(held.record, learned) : score(learned) < publishScoreMin) return;
    if (!this.#mayPublish(key)) return;
    const record = this.#record(learned, grant, own ? held.record.rev + 1 : Math.floor(clock.wallMs() / 1000));
    if (held !== null && !own && contest({ record, author: identity.pair.public.id }, held) > 0) return;
    const signed = signRecord(identity.pair, record);
    if (records.receive(build, site, signed).kind !== "held") return;
    await this.#send(link, key, signed);
  }

  async #send(link: Link, key: string, signed: Uint8Array): Promise<void> {
    if (!this.#mayPublish(key)) return;
    const [build = "", site = ""] = key.split("/");
    const { topics, log } = this.#options;
    this.#sentMs.set(key, this.#nowMs());
    this.#recentMs.push(this.#nowMs());
    try {
      await link.publish({
        topic: topics.rescue(build, site),
        payload: signed,
        qos: 1,
        retain: true,
        schema: "rescue/1.0",
      });
      this.published += 1;
    } catch (error) {
      if (!(error instanceof TelemetryError)) throw error;
      // Held here all the same; the next link without a session sends it again.
      log("warn", "telemetry.recordNotSent", { site, why: error.message });
    }
  }

  #mayPublish(key: string): boolean {
    const nowMs = this.#nowMs();
    this.#recentMs = this.#recentMs.filter((atMs) => atMs > nowMs - hourMs);
    const last = this.#sentMs.get(key) ?? Number.NEGATIVE_INFINITY;
    return this.#recentMs.length < publishesPerHour && nowMs - last >= (this.#options.siteIntervalMs ?? siteIntervalMs);
  }

  #record(learned: Learned, grant: Uint8Array, rev: number): RescueRecord {
    const { topics, version, clock } = this.#options;
    const { lastFaultMs: _, ...words } = learned;
    const issuedAt = Math.floor(clock.wallMs() / 1000);
    return {
      ...words,
      program: learned.program.slice(0, 64),
      clean: Math.min(countMax, learned.clean),
      degraded: Math.min(countMax, learned.degraded),
      failed: Math.min(countMax, learned.failed),
      block: false,
      rev,
      device: topics.device,
      version,
      issuedAt,
      expiresAt: issuedAt + validSeconds,
      grant,
    };
  }

  #nowMs(): number {
    return this.#options.clock.monotonicNs() / 1e6;
  }
}

const sameEvidence = (record: RescueRecord, learned: Learned): boolean =>
  record.clean === Math.min(countMax, learned.clean) &&
  record.degraded === Math.min(countMax, learned.degraded) &&
  record.failed === Math.min(countMax, learned.failed) &&
  record.rung === learned.rung &&
  record.candidate?.module === learned.candidate?.module &&
  record.candidate?.offset === learned.candidate?.offset &&
  record.returnValue === learned.returnValue;
