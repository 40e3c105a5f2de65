// SPDX-License-Identifier: Apache-2.0
/**
 * Keeps the minute around a fault with the fault: once at once, in case we die, and once when the minute is complete.
 *
 * Faults within one minute of each other share a record: it holds them all as marks. Limit: `perHourMax` records an hour for
 * each workload; a storm is in the journal anyway.
 */
import type { Clock } from "#clock.ts";
import { afterMs } from "#monitor/flight.ts";
import type { Monitor } from "#monitor/monitor.ts";
import { flightEvent } from "#storage/flightReader.ts";
import type { Storage } from "#storage/storage.ts";
import type { TaskGroup } from "#tasks.ts";

const perHourMax = 60;
const hourMs = 3_600_000;

type Pending = { readonly workload: string; readonly fault: string; readonly faultMs: number };

export class FlightKeeper {
  readonly #pending = new Map<string, Pending>();
  #kept: readonly { readonly workload: string; readonly atMs: number }[] = [];

  constructor(
    private readonly monitor: Monitor,
    private readonly storage: Pick<Storage, "event">,
    private readonly clock: Clock,
    private readonly tasks: TaskGroup,
  ) {}

  fault(workload: string, fault: string): void {
    const faultMs = this.clock.wallMs();
    if (this.#pending.has(workload)) return;
    this.#kept = this.#kept.filter(({ atMs }) => faultMs - atMs < hourMs);
    if (this.#kept.filter((each) => each.workload === workload).length >= perHourMax) return;
    this.#kept = [...this.#kept, { workload, atMs: faultMs }];
    const pending = { workload, fault, faultMs };
    this.#pending.set(workload, pending);
    this.tasks.start(async (signal) => {
      // Not in the turn of the loop that worked on the fault: another one may wait for it.
      await this.clock.sleep(1, signal);
      this.#write(pending, false);
      await this.clock.sleep(afterMs, signal);
      this.#finish(pending);
    });
  }

  /** Keeps what is there of minutes that are not over. */
  close(): void {
    for (const pending of [...this.#pending.values()]) this.#finish(pending);
  }

  #finish(pending: Pending): void {
    if (!this.#pending.delete(pending.workload)) return;
    this.#write(pending, true);
  }

  #write({ workload, fault, faultMs }: Pending, whole: boolean): void {
    const record = this.monitor.flight(workload, fault, faultMs);
    if (record !== null) this.storage.event(flightEvent, workload, { fault, faultMs, whole, record });
  }
}
