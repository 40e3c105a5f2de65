// SPDX-License-Identifier: Apache-2.0
/**
 * What a reader got of a fleet, against what the fleet wrote: lost, doubled and late for each class. Gets messages and the
 * journals of all boxes; gives counts. Pure.
 */
import { decodeCborMap } from "#telemetry/cbor.ts";
import { decodePack } from "#telemetry/senml.ts";
import type { MemoryFeed } from "#tests/peers/memoryFeed.ts";

/** Later than this after it happened is late. */
export const lateMs = 10_000;

export type ClassCount = { sent: number; seen: number; lost: number; doubled: number; late: number };

type Arrival = { times: number; late: boolean };

export class FleetTally {
  readonly #events = new Map<string, Map<string, Arrival>>();
  readonly #points = new Map<string, Arrival>();
  readonly births = new Set<string>();

  /** One message below ROOT/1/. */
  take(device: string, kind: string, payload: Uint8Array, nowMs: number): void {
    if (kind === "birth") this.births.add(device);
    else if (kind === "e") this.#takeEvent(payload, nowMs);
    else if (kind === "m" || kind === "h") this.#takePack(payload, nowMs);
  }

  /** Counts of each event class, against what the boxes wrote. */
  events(feeds: readonly MemoryFeed[]): Record<string, ClassCount> {
    const counts: Record<string, ClassCount> = {};
    for (const name of ["fault", "suppress", "lifecycle", "audit", "health", "herd"]) {
      const arrivals = [...(this.#events.get(name)?.values() ?? [])];
      const sent = feeds.reduce((sum, feed) => sum + writtenOf(feed, name), 0);
      counts[name] = { sent, ...summed(arrivals, sent) };
    }
    return counts;
  }

  /** Metric points, against the number of points that the boxes gave. */
  points(sent: number): ClassCount {
    return { sent, ...summed([...this.#points.values()], sent) };
  }

  #takeEvent(payload: Uint8Array, nowMs: number): void {
    const event = decodeCborMap(payload, 65_536);
    const name = String(event.class);
    const byId = this.#events.get(name) ?? new Map<string, Arrival>();
    this.#events.set(name, byId);
    arrive(byId, String(event.id), nowMs - Number(event.t) > lateMs);
  }

  #takePack(payload: Uint8Array, nowMs: number): void {
    for (const { name, atMs } of decodePack(payload)) arrive(this.#points, `${name}@${atMs}`, nowMs - atMs > lateMs);
  }
}

function arrive(arrivals: Map<string, Arrival>, key: string, late: boolean): void {
  const known = arrivals.get(key);
  if (known === undefined) arrivals.set(key, { times: 1, late });
  else known.times += 1;
}

function summed(arrivals: readonly Arrival[], sent: number): Omit<ClassCount, "sent"> {
  return {
    seen: arrivals.length,
    lost: sent - arrivals.length,
    doubled: arrivals.filter(({ times }) => times > 1).length,
    late: arrivals.filter(({ late }) => late).length,
  };
}

const writtenOf = (feed: MemoryFeed, name: string): number =>
  feed.rows.filter((row) => {
    if (row.kind === "fault") return name === "fault";
    if (row.kind === "outcome") return name === "suppress";
    if (row.kind !== "event") return false;
    const prefix = row.event.split(".")[0]!;
    return ["audit", "health", "herd"].includes(prefix) ? prefix === name : name === "lifecycle";
  }).length;
