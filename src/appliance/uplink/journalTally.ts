// SPDX-License-Identifier: Apache-2.0
/**
 * What the journal says of the workloads: which are up and protected, and the totals of their metrics since this supervisor
 * began. Gets durable rows in their order; gives states and samples. It pulls, so it costs the fault path nothing.
 *
 * Limits: 256 workloads; the workload of the last 256 faults is remembered, for outcomes name only their fault.
 */
import type { Outcome } from "#fault.ts";
import { type MetricSample, metricCatalogue } from "#metrics.ts";
import type { FeedRow } from "#telemetry/feed.ts";

const workloadsMax = 256;
const faultsMax = 256;
const stopBounds = metricCatalogue.stop_seconds.bounds!;

export type WorkloadState = {
  readonly name: string;
  readonly kind: "program" | "guest";
  readonly up: boolean;
  readonly protected: boolean;
};

type CounterName = "faults_total" | "suppressions_total" | "sessions_cut_total" | "locks_released_total";
type Stops = { readonly buckets: number[]; count: number; sum: number };

/** What an event says of its workload; null: nothing of it. */
const meanings: Readonly<Record<string, Partial<WorkloadState>>> = {
  "guard.started": { kind: "program", up: true },
  "guard.protected": { kind: "program", up: true, protected: true },
  "guard.stubLost": { protected: false },
  "guard.retired": { protected: false },
  "guard.letGo": { protected: false },
  "guard.waiting": { kind: "program", protected: false },
  "guard.ended": { up: false, protected: false },
  "program.ended": { up: false, protected: false },
  "guest.up": { kind: "guest", up: true, protected: true },
  "guest.takenOver": { kind: "guest", up: true, protected: true },
  "guest.paused": { kind: "guest", up: false },
  "guest.starting": { kind: "guest", up: false, protected: true },
  "guest.down": { kind: "guest", up: false, protected: false },
  "guest.held": { kind: "guest", up: false, protected: false },
};

export class JournalTally {
  readonly #states = new Map<string, WorkloadState>();
  readonly #counters = new Map<
    string,
    { readonly name: CounterName; readonly labels: readonly string[]; value: number }
  >();
  readonly #stops = new Map<string, Stops>();
  readonly #faults = new Map<string, string>();

  get workloads(): readonly WorkloadState[] {
    return [...this.#states.values()];
  }

  /** True where a workload's state changed. */
  take(row: FeedRow): boolean {
    switch (row.kind) {
      case "fault":
        this.#faults.set(row.id, row.workload);
        if (this.#faults.size > faultsMax) this.#faults.delete(this.#faults.keys().next().value!);
        this.#count("faults_total", row.workload, row.signal);
        return false;
      case "outcome":
        this.#takeOutcome(row.outcome, this.#faults.get(row.outcome.fault) ?? "");
        return false;
      case "event":
        if (row.event === "lock.released") this.#count("locks_released_total", row.workload);
        if (row.event === "guest.outcome") {
          this.#count("suppressions_total", row.workload, String(row.facts.rung), String(row.facts.verdict));
        }
        return this.#takeEvent(row.event, row.workload);
      case "silent":
        return false;
    }
  }

  samples(): MetricSample[] {
    const counters = [...this.#counters.values()].map((one): MetricSample => ({ kind: "value", ...one }));
    const stops = [...this.#stops].map(
      ([workload, { buckets, count, sum }]): MetricSample => ({
        ...{ kind: "histogram", name: "stop_seconds", labels: [workload], buckets: [...buckets], count, sum },
      }),
    );
    const states = this.workloads.flatMap(({ name, up, protected: isProtected }): MetricSample[] => [
      { kind: "value", name: "workload_up", labels: [name], value: up ? 1 : 0 },
      { kind: "value", name: "workload_protected", labels: [name], value: isProtected ? 1 : 0 },
    ]);
    return [...states, ...counters, ...stops];
  }

  #takeOutcome({ rung, verdict, stopUs }: Outcome, workload: string): void {
    this.#count("suppressions_total", workload, rung, verdict);
    if (rung === "quarantine") this.#count("sessions_cut_total", workload);
    const stops = this.#stops.get(workload) ?? { buckets: stopBounds.map(() => 0), count: 0, sum: 0 };
    this.#stops.set(workload, stops);
    const seconds = stopUs / 1e6;
    stops.count += 1;
    stops.sum += seconds;
    for (const [index, bound] of stopBounds.entries()) if (seconds <= bound) stops.buckets[index]! += 1;
  }

  #takeEvent(event: string, name: string): boolean {
    const meaning = meanings[event];
    if (meaning === undefined || (!this.#states.has(name) && this.#states.size >= workloadsMax)) return false;
    const before = this.#states.get(name) ?? { name, kind: "program", up: false, protected: false };
    const after = { ...before, ...meaning };
    this.#states.set(name, after);
    return before.up !== after.up || before.protected !== after.protected || before.kind !== after.kind;
  }

  #count(name: CounterName, ...labels: readonly string[]): void {
    const key = [name, ...labels].join("\n");
    const known = this.#counters.get(key);
    if (known === undefined) this.#counters.set(key, { name, labels, value: 1 });
    else known.value += 1;
  }
}
