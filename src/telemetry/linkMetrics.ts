// SPDX-License-Identifier: Apache-2.0
/**
 * The metrics of telemetry itself: outbox, connection, commands, herd. Gets the parts; gives samples of the group `link`.
 * Also counts acknowledgement times and bursts of drops.
 */
import { type MetricSample, metricCatalogue } from "#metrics.ts";
import type { CommandDesk } from "./commandDesk.ts";
import type { EventFacts } from "./feed.ts";
import type { FleetRecords } from "./fleetRecords.ts";
import type { HerdPublisher } from "./herdPublisher.ts";
import type { Dropped, Lane, Outbox } from "./outbox.ts";
import type { Session } from "./session.ts";

/** A burst of drops is over after so long without one. */
const burstMs = 60_000;

/** The link as a person wants to know it. Times are wall clock, ms. */
export type LinkState = {
  readonly connected: boolean;
  readonly sinceMs: number;
  readonly why: string | null;
  readonly lastAckMs: number | null;
  readonly waitingMessages: number;
  readonly oldestMs: number | null;
  readonly droppedRows: number;
  /** When the client certificate ends; null where there is none. */
  readonly certificateEndsMs: number | null;
};

export class AckTimes {
  readonly #buckets = metricCatalogue.mqtt_ack_seconds.bounds!.map(() => 0);
  #count = 0;
  #sum = 0;

  /** Wall clock of the newest. */
  lastMs: number | null = null;

  add(ackMs: number, atMs: number): void {
    this.lastMs = atMs;
    const seconds = ackMs / 1000;
    this.#count += 1;
    this.#sum += seconds;
    for (const [index, bound] of metricCatalogue.mqtt_ack_seconds.bounds!.entries()) {
      if (seconds <= bound) this.#buckets[index]! += 1;
    }
  }

  get sample(): MetricSample {
    return {
      kind: "histogram",
      name: "mqtt_ack_seconds",
      labels: [],
      buckets: [...this.#buckets],
      count: this.#count,
      sum: this.#sum,
    };
  }
}

/** Drops as they are told: a running total for each lane, and one event for each burst. */
export class DropCounter {
  readonly totals: Record<Lane, number> = { event: 0, metric: 0 };
  #burst = new Map<Lane, Dropped>();
  #lastMs = 0;

  /** Adds what went; gives the facts of a burst that has ended, or null. */
  take(dropped: readonly Dropped[], nowMs: number): EventFacts | null {
    for (const each of dropped) {
      this.totals[each.lane] += each.rows;
      const known = this.#burst.get(each.lane);
      this.#burst.set(each.lane, {
        lane: each.lane,
        rows: each.rows + (known?.rows ?? 0),
        fromMs: Math.min(each.fromMs, known?.fromMs ?? each.fromMs),
        toMs: Math.max(each.toMs, known?.toMs ?? each.toMs),
      });
      this.#lastMs = nowMs;
    }
    if (this.#burst.size === 0 || nowMs - this.#lastMs < burstMs) return null;
    const bursts = [...this.#burst.values()];
    this.#burst = new Map();
    return {
      severity: 2,
      events: bursts.find(({ lane }) => lane === "event")?.rows ?? 0,
      metrics: bursts.find(({ lane }) => lane === "metric")?.rows ?? 0,
      from: Math.min(...bursts.map(({ fromMs }) => fromMs)),
      to: Math.max(...bursts.map(({ toMs }) => toMs)),
    };
  }

  get dropping(): boolean {
    return this.#burst.size > 0;
  }
}

export type LinkMetricParts = {
  readonly outbox: Outbox;
  readonly session: Session;
  readonly desk: CommandDesk;
  readonly records: FleetRecords;
  readonly publisher: HerdPublisher;
  readonly acks: AckTimes;
  readonly drops: DropCounter;
  readonly used: ReadonlyMap<string, number>;
  readonly nowMs: number;
};

export function linkSamples(parts: LinkMetricParts): MetricSample[] {
  const { outbox, session, desk, records, publisher, acks, drops, used, nowMs } = parts;
  const value = (name: MetricSample["name"], labels: readonly string[], amount: number): MetricSample => ({
    kind: "value",
    name,
    labels,
    value: amount,
  });
  const lanes = (["event", "metric"] as const).flatMap((lane) => {
    const { rows, bytes, oldestMs } = outbox.depth(lane);
    return [
      value("outbox_messages", [lane], rows),
      value("outbox_bytes", [lane], bytes),
      value("outbox_oldest_seconds", [lane], oldestMs === null ? 0 : Math.max(0, (nowMs - oldestMs) / 1000)),
      value("outbox_dropped_total", [lane], drops.totals[lane]),
    ];
  });
  return [
    ...lanes,
    value("mqtt_connected", [], session.connected ? 1 : 0),
    value("mqtt_connects_total", [], session.connects),
    acks.sample,
    ...[...desk.counts].map(([result, count]) => value("commands_total", [result], count)),
    value("herd_records", [], records.count),
    ...[...used].map(([outcome, count]) => value("herd_used_total", [outcome], count)),
    ...[...records.ignored].map(([why, count]) => value("herd_ignored_total", [why], count)),
    value("herd_published_total", [], publisher.published),
  ];
}
