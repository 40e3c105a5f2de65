// SPDX-License-Identifier: Apache-2.0
/**
 * Metrics as they come: sent at once at QoS 0 while a link flows, into the outbox while none does. Gets batches; gives live
 * packs on `P/m/…` and backfill on `P/h/…`, never mixed.
 *
 * What was sent in the last two keep-alive periods stays in memory, because a dead link takes QoS 0 without a word: when
 * the link proves dead it goes into the outbox. A point is (name, time), so doubles are harmless.
 */
import type { Clock } from "#clock.ts";
import type { MetricGroup, MetricSample } from "#metrics.ts";
import { type Encoding, schemaOf } from "./encoding.ts";
import type { Link } from "./link.ts";
import type { Outbox, OutMessage } from "./outbox.ts";
import type { TimeQuality } from "./payloads.ts";
import { encodePacks, jsonPacks } from "./senml.ts";
import type { BoxTopics } from "./topics.ts";

/** Packs kept in case the link is dead already; beyond it the oldest go to the outbox early. */
const recentPacksMax = 64;
const schema = schemaOf("senml");

export type MetricBatch = {
  readonly group: MetricGroup;
  readonly atMs: number;
  readonly samples: readonly MetricSample[];
};

export type LiveMetricsOptions = {
  readonly outbox: Outbox;
  readonly topics: BoxTopics;
  readonly encoding: Encoding;
  readonly keepAliveMs: number;
  readonly boot: string;
  readonly clock: Clock;
  readonly quality: () => TimeQuality;
};

type Pack = {
  readonly group: MetricGroup;
  readonly json: boolean;
  readonly atMs: number;
  readonly payload: Uint8Array;
};
type Sent = Pack & { readonly sentNs: number };

export class LiveMetrics {
  readonly #options: LiveMetricsOptions;
  #link: Link | null = null;
  #recent: Sent[] = [];

  constructor(options: LiveMetricsOptions) {
    this.#options = options;
  }

  /** From now on batches go out live on this link. */
  begin(link: Link): void {
    this.#link = link;
  }

  /** The link is over. `died`: what it took last may never have arrived. */
  end(died: boolean): void {
    this.#link = null;
    if (died) for (const pack of this.#recent) this.#keep(pack);
    this.#recent = [];
  }

  /** Sends a batch, or keeps it. Never waits. */
  take(batch: MetricBatch): void {
    for (const pack of this.#packs(batch)) {
      if (this.#link?.flowing) this.#send(this.#link, pack);
      else this.#keep(pack);
    }
  }

  #send(link: Link, pack: Pack): void {
    const { topics, clock, keepAliveMs } = this.#options;
    const topic = topics.live(pack.group);
    const contentType = pack.json ? "application/senml+json" : "application/senml+cbor";
    void link
      .publish({
        topic: pack.json ? topics.mirror(topic) : topic,
        payload: pack.payload,
        qos: 0,
        retain: false,
        schema,
        contentType,
      })
      // The end of the link is told to `end`, which keeps what this link had taken.
      .catch(() => {});
    const sentNs = clock.monotonicNs();
    this.#recent = [...this.#recent, { ...pack, sentNs }].filter(
      (sent) => sent.sentNs > sentNs - 2 * keepAliveMs * 1e6,
    );
    while (this.#recent.length > recentPacksMax) this.#keep(this.#recent.shift()!);
  }

  #keep(pack: Pack): void {
    const { outbox, topics, boot, quality } = this.#options;
    const topic = topics.backfill(pack.group);
    const message: OutMessage = {
      id: `m/${pack.group}/${pack.json ? "j" : "c"}/${pack.atMs}/${Bun.hash.xxHash3(pack.payload).toString(36)}`,
      lane: "metric",
      rank: 0,
      topic: pack.json ? topics.mirror(topic) : topic,
      schema,
      payload: pack.payload,
      atMs: pack.atMs,
      boot,
      n: 0,
      quality: quality(),
    };
    outbox.append([message]);
  }

  #packs({ group, atMs, samples }: MetricBatch): Pack[] {
    const { topics, encoding } = this.#options;
    const packs: Pack[] = [];
    if (encoding !== "json") {
      for (const payload of encodePacks(topics.device, atMs, samples))
        packs.push({ group, json: false, atMs, payload });
    }
    if (encoding !== "cbor") {
      for (const text of jsonPacks(topics.device, atMs, samples)) {
        packs.push({ group, json: true, atMs, payload: new TextEncoder().encode(text) });
      }
    }
    return packs;
  }
}
