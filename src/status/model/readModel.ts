// SPDX-License-Identifier: Apache-2.0
/**
 * The read model of the journal: faults with their trials, events, and tallies of each workload. Gets a state directory;
 * reads what came after its cursor, a slice at a time; gives lists, newest first.
 *
 * It lives in the page's own thread and reads durable rows only. Memory is bounded: `faultsKept`, `eventsKept`.
 */

import type { FaultId, Outcome, Rung, Verdict } from "#fault.ts";
import { metricDefinition } from "#metrics.ts";
import { type JournalEntry, readEntries } from "#storage/cursorReader.ts";
import { type EventHead, type FaultHead, type IntentHead, rungOf } from "#storage/rows.ts";
import { limits } from "../settings.ts";

/** Rows read between two turns of the thread. */
const sliceRows = 500;
const workloadsMax = 1_024;
/** A live reader that is further behind gets a new snapshot. */
const changesKept = 2_000;

export type Trial = {
  readonly trial: string;
  readonly rung: Rung;
  /** null while on probation, or where the signal was delivered. */
  readonly verdict: Verdict | null;
  readonly stopUs: number | null;
  /** The client that was cut; null where nobody was. */
  readonly cut: string | null;
  readonly delivered: string | null;
};
export type FaultLine = {
  readonly n: number;
  readonly id: FaultId;
  readonly atMs: number;
  readonly workload: string;
  readonly pid: number;
  readonly tid: number;
  readonly threadName: string;
  readonly signal: string;
  readonly site: string;
  readonly symbol: string | null;
  readonly trials: readonly Trial[];
};
export type EventLine = {
  readonly n: number;
  readonly atMs: number;
  readonly event: string;
  readonly workload: string;
  readonly facts: unknown;
};
export type Change =
  | { readonly n: number; readonly kind: "fault" | "outcome"; readonly value: FaultLine }
  | { readonly n: number; readonly kind: "event"; readonly value: EventLine };
export type Tally = {
  faults: Map<string, number>;
  /** `RUNG OUTCOME` to a count. */
  outcomes: Map<string, number>;
  cut: number;
  locksReleased: number;
  stopBuckets: number[];
  stopCount: number;
  stopSumUs: number;
  stopUsMax: number;
};

const stopBounds = metricDefinition("stop_seconds").bounds ?? [];

export class ReadModel {
  #cursor = 0;
  #faults: FaultLine[] = [];
  #byId = new Map<string, number>();
  #events: EventLine[] = [];
  readonly #tallies = new Map<string, Tally>();
  #whole = false;
  #trouble: string | null = null;
  readonly #changes: { readonly n: number; readonly kind: Change["kind"]; readonly id: string }[] = [];
  /** Changes up to this one are forgotten. */
  #dropped = -1;

  constructor(private readonly directory: string) {}

  get cursor(): number {
    return this.#cursor;
  }
  /** False until all that was there at start has been read. */
  get whole(): boolean {
    return this.#whole;
  }
  /** Why the journal could not be read at the last try; null where it could. */
  get trouble(): string | null {
    return this.#trouble;
  }

  /** Reads one slice. True where there is more. Blocks for the disk; only the page's thread waits. */
  pull(explain: (error: unknown) => string): boolean {
    try {
      const entries = readEntries(this.directory, this.#cursor, sliceRows);
      for (const entry of entries) this.#take(entry);
      this.#trouble = null;
      this.#whole ||= entries.length < sliceRows;
      return entries.length === sliceRows;
    } catch (error) {
      this.#trouble = explain(error);
      return false;
    }
  }

  /** Newest first, older than `before` where it is given. */
  faults(options: {
    limit: number;
    before?: number;
    workload?: string;
    verdict?: string;
    since?: number;
  }): FaultLine[] {
    const { limit, before = Number.POSITIVE_INFINITY, workload, verdict, since = 0 } = options;
    const found: FaultLine[] = [];
    for (let at = this.#faults.length - 1; at >= 0 && found.length < limit; at -= 1) {
      const fault = this.#faults[at]!;
      if (fault.n >= before || (workload !== undefined && fault.workload !== workload)) continue;
      if (fault.atMs < since) break;
      if (verdict === undefined || verdictOf(fault) === verdict) found.push(fault);
    }
    return found;
  }

  events(options: { limit: number; before?: number; workload?: string; event?: string }): EventLine[] {
    const { limit, before = Number.POSITIVE_INFINITY, workload, event } = options;
    const found: EventLine[] = [];
    for (let at = this.#events.length - 1; at >= 0 && found.length < limit; at -= 1) {
      const line = this.#events[at]!;
      if (line.n >= before || (workload !== undefined && line.workload !== workload)) continue;
      if (event === undefined || line.event.startsWith(event)) found.push(line);
    }
    return found;
  }

  /** What changed after a cursor, oldest first, each fault as it is now; null where that is longer ago than is kept. */
  changes(cursor: number, limit: number): Change[] | null {
    const from = this.#changes.findIndex((change) => change.n > cursor);
    if (from < 0) return [];
    if (from === 0 && this.#dropped >= cursor) return null;
    return this.#changes.slice(from, from + limit).flatMap(({ n, kind, id }): Change[] => {
      if (kind === "event") {
        const value = this.#events.findLast((event) => event.n === n);
        return value === undefined ? [] : [{ n, kind, value }];
      }
      const value = this.fault(id);
      return value === null ? [] : [{ n, kind, value }];
    });
  }

  fault(id: string): FaultLine | null {
    const n = this.#byId.get(id);
    return n === undefined ? null : (this.#faults.findLast((fault) => fault.n === n) ?? null);
  }

  get tallies(): ReadonlyMap<string, Readonly<Tally>> {
    return this.#tallies;
  }

  #take({ n, kind, id, atMs, head }: JournalEntry): void {
    this.#cursor = n;
    if (head === null || typeof head !== "object") return;
    if (kind === "fault" || kind === "outcome") this.#note(n, kind, kind === "fault" ? id : (head as Outcome).fault);
    if (kind === "event") this.#note(n, kind, id);
    if (kind === "fault") this.#takeFault(n, id as FaultId, atMs, head as FaultHead);
    else if (kind === "intent") this.#takeIntent(head as IntentHead);
    else if (kind === "outcome") this.#takeOutcome(head as Outcome);
    else if (kind === "event") this.#takeEvent(n, atMs, head as EventHead);
  }

  #note(n: number, kind: Change["kind"], id: string): void {
    this.#changes.push({ n, kind, id });
    if (this.#changes.length <= changesKept) return;
    const gone = this.#changes.splice(0, changesKept / 4);
    this.#dropped = gone.at(-1)!.n;
  }

  #takeFault(n: number, id: FaultId, atMs: number, head: FaultHead): void {
    const { workload, pid, tid, threadName, signal, site, symbol } = head;
    const place = site.fault;
    this.#byId.set(id, n);
    this.#faults.push({ n, id, atMs, workload, pid, tid, threadName, signal, site: place, symbol, trials: [] });
    if (this.#faults.length > limits.faultsKept) {
      for (const gone of this.#faults.splice(0, limits.faultsKept / 4)) this.#byId.delete(gone.id);
    }
    const tally = this.#tally(workload);
    tally.faults.set(signal, (tally.faults.get(signal) ?? 0) + 1);
  }

  #takeIntent({ decision }: IntentHead): void {
    const { trial, edit } = decision;
    const delivered = edit.kind === "deliver" ? edit.reason : null;
    const made = { trial, rung: rungOf(edit), verdict: null, stopUs: null, cut: null, delivered };
    this.#change(trial.slice(0, trial.lastIndexOf(".")), (fault) => ({ ...fault, trials: [...fault.trials, made] }));
  }

  #takeOutcome(outcome: Outcome): void {
    const { trial, rung, verdict, stopUs, session } = outcome;
    const cut = rung === "quarantine" ? (session?.peer ?? null) : null;
    this.#change(outcome.fault, (fault) => {
      this.#count(fault.workload, outcome, cut !== null);
      const trials = fault.trials.map((each) =>
        each.trial === trial ? { trial, rung, verdict, stopUs, cut, delivered: null } : each,
      );
      return { ...fault, trials };
    });
  }

  #count(workload: string, { rung, verdict, stopUs }: Outcome, cut: boolean): void {
    const tally = this.#tally(workload);
    const key = `${rung} ${verdict}`;
    tally.outcomes.set(key, (tally.outcomes.get(key) ?? 0) + 1);
    if (cut) tally.cut += 1;
    if (stopUs <= 0) return;
    for (const [index, bound] of stopBounds.entries()) {
      if (stopUs / 1e6 <= bound) tally.stopBuckets[index]! += 1;
    }
    tally.stopCount += 1;
    tally.stopSumUs += stopUs;
    tally.stopUsMax = Math.max(tally.stopUsMax, stopUs);
  }

  #takeEvent(n: number, atMs: number, { event, workload, facts }: EventHead): void {
    this.#events.push({ n, atMs, event: String(event), workload: String(workload ?? ""), facts });
    if (this.#events.length > limits.eventsKept) this.#events.splice(0, limits.eventsKept / 4);
    if (event === "lock.released") this.#tally(String(workload)).locksReleased += 1;
  }

  #change(id: string, change: (fault: FaultLine) => FaultLine): void {
    const n = this.#byId.get(id);
    if (n === undefined) return;
    // Newest last and nearly always meant: from the end.
    for (let at = this.#faults.length - 1; at >= 0; at -= 1) {
      const fault = this.#faults[at]!;
      if (fault.n !== n) continue;
      this.#faults[at] = change(fault);
      return;
    }
  }

  #tally(workload: string): Tally {
    const known = this.#tallies.get(workload);
    if (known !== undefined) return known;
    const fresh: Tally = {
      faults: new Map(),
      outcomes: new Map(),
      cut: 0,
      locksReleased: 0,
      stopBuckets: stopBounds.map(() => 0),
      stopCount: 0,
      stopSumUs: 0,
      stopUsMax: 0,
    };
    if (this.#tallies.size < workloadsMax) this.#tallies.set(workload, fresh);
    return fresh;
  }
}

/** How a fault ended, by its last trial. */
export type FaultEnd = Verdict | "probation" | "delivered" | "open";

export function verdictOf(fault: Pick<FaultLine, "trials">): FaultEnd {
  const last = fault.trials.at(-1);
  if (last === undefined) return "open";
  if (last.delivered !== null) return "delivered";
  return last.verdict ?? "probation";
}
