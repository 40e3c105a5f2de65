// SPDX-License-Identifier: Apache-2.0
/**
 * What a box says of itself: birth, config, alarms, discovery. Gets facts from whoever knows them; keeps them as retained
 * topics. Everything that looks like a secret is left out of the config, whoever put it there.
 */
import { createHash } from "node:crypto";
import type { Clock } from "#clock.ts";
import { metricDefinition, metricNames } from "#metrics.ts";
import { verbRoles } from "#verbs.ts";
import type { CborMap } from "./cbor.ts";
import { discoveryConfig } from "./discovery.ts";
import { contentTypes, type Encoding, formsOf, schemaOf } from "./encoding.ts";
import type { KeptTopics } from "./kept.ts";
import type { Outbox } from "./outbox.ts";
import type { Alarm, Birth } from "./payloads.ts";
import type { BoxTopics } from "./topics.ts";

/** Raised at once; beyond it a further alarm is not told. */
export const alarmsMax = 32;
const secretKey = /secret|password|passphrase|token|credential|private|authority|certificate/i;

/** What only the appliance knows of the box. */
export type BoxFacts = Omit<Birth, "v" | "rev" | "t" | "verbs" | "metrics" | "herd">;
export type AlarmFacts = Omit<Alarm, "v" | "alarm" | "since">;
export type SettingValue = string | number | boolean | null | readonly (string | number | boolean | null)[];

export type BoxWordsOptions = {
  readonly outbox: Outbox;
  readonly kept: KeptTopics;
  readonly topics: BoxTopics;
  readonly encoding: Encoding;
  readonly discovery: boolean;
  readonly herdKey: Uint8Array;
  readonly clock: Clock;
};

export class BoxWords {
  readonly #options: BoxWordsOptions;
  readonly #alarms = new Map<string, Alarm>();

  constructor(options: BoxWordsOptions) {
    this.#options = options;
  }

  /** Alarms that are raised now, oldest first. */
  get alarms(): readonly Alarm[] {
    return [...this.#alarms.values()];
  }

  /** Tells who we are. The revision rises only where something differs. */
  birth(facts: BoxFacts): void {
    const { outbox, clock, discovery, kept, topics, herdKey } = this.#options;
    const digest = createHash("sha256").update(JSON.stringify(facts)).digest("hex").slice(0, 16);
    const [known, last] = (outbox.note("session", "birth") ?? ":0").split(":");
    const rev = known === digest ? Number(last) : Number(last) + 1;
    outbox.putNote("session", "birth", `${digest}:${rev}`);
    const metrics = Object.fromEntries(
      metricNames.map((name) => {
        const { kind, group, unit, labels } = metricDefinition(name);
        return [name, { kind, group, unit, labels: [...labels] }];
      }),
    );
    const payload = { v: 1, rev, t: clock.wallMs(), ...facts, verbs: verbRoles, metrics, herd: herdKey };
    this.#keep(topics.birth, "birth", payload as unknown as CborMap);
    if (!discovery) return;
    const workloads = facts.workloads.map(({ w }) => w);
    const text = discoveryConfig(topics, { model: facts.model, version: facts.sw, workloads });
    const bytes = new TextEncoder().encode(text);
    kept.set({
      topic: topics.discovery,
      schema: schemaOf("discovery"),
      contentType: contentTypes.json,
      payload: bytes,
    });
  }

  /** Sends the birth again though nothing changed. */
  rebirth(): void {
    const { kept, topics } = this.#options;
    for (const topic of [topics.birth, topics.mirror(topics.birth)]) kept.offer(topic);
  }

  /** Tells the effective settings, by dotted path, without anything secret. */
  config(settings: Readonly<Record<string, SettingValue>>, restartRequired: boolean): void {
    const open = Object.fromEntries(
      Object.entries(settings)
        .filter(([path]) => !secretKey.test(path))
        .sort(([a], [b]) => (a < b ? -1 : 1)),
    );
    const hash = createHash("sha256").update(JSON.stringify(open)).digest("hex").slice(0, 16);
    const t = this.#options.clock.wallMs();
    this.#keep(this.#options.topics.config, "config", {
      v: 1,
      t,
      hash,
      restart_required: restartRequired,
      settings: open,
    });
  }

  /** Raises an alarm, or changes what it says; `since` stays. */
  raise(name: string, facts: AlarmFacts): void {
    const known = this.#alarms.get(name);
    if (known === undefined && this.#alarms.size >= alarmsMax) return;
    const alarm: Alarm = { v: 1, alarm: name, since: known?.since ?? this.#options.clock.wallMs(), ...facts };
    this.#alarms.set(name, alarm);
    this.#keep(this.#options.topics.alarm(name), "alarm", alarm);
  }

  clear(name: string): void {
    if (!this.#alarms.delete(name)) return;
    const { kept, topics } = this.#options;
    const topic = topics.alarm(name);
    for (const each of [topic, topics.mirror(topic)]) kept.clear(each);
  }

  /** Alarms of an earlier run that nobody raised again. */
  clearOld(): void {
    const { kept, topics } = this.#options;
    for (const topic of kept.topicsBelow(`${topics.box}/a/`)) {
      if (!this.#alarms.has(topic.slice(`${topics.box}/a/`.length))) kept.clear(topic);
    }
  }

  #keep(topic: string, name: string, value: CborMap): void {
    const { kept, topics, encoding } = this.#options;
    for (const form of formsOf(topics, topic, value, encoding)) {
      const contentType = form.json ? contentTypes.json : contentTypes.cbor;
      kept.set({ topic: form.topic, schema: schemaOf(name), contentType, payload: form.payload });
    }
  }
}
