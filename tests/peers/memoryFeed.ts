// SPDX-License-Identifier: Apache-2.0
/**
 * A journal in memory: rows with numbers, durable at once. Gets events, faults and outcomes; gives them by cursor. For tests
 * of telemetry and for the boxes of the simulator.
 */
import type { Clock } from "#clock.ts";
import type { FaultId, Outcome, TrialId, Verdict } from "#fault.ts";
import { Bell } from "#telemetry/bell.ts";
import type { EventFacts, FeedRow, JournalFeed } from "#telemetry/feed.ts";

export class MemoryFeed implements JournalFeed {
  readonly rows: FeedRow[] = [];
  readonly #bell = new Bell();

  constructor(private readonly clock: Clock) {}

  get cursor(): number {
    return this.rows.length;
  }

  read(after: number, limit: number): readonly FeedRow[] {
    return this.rows.slice(after, after + limit);
  }

  async *commits(signal: AbortSignal): AsyncGenerator<number> {
    for (;;) {
      yield this.cursor;
      await this.#bell.wait(signal);
    }
  }

  record(event: string, workload: string, facts: EventFacts): void {
    const { n, atMs } = this.#head();
    this.#push({ kind: "event", n, atMs, id: `e-${n}`, event, workload, facts });
  }

  /** A fault and its outcome: two rows, with an intent between them as in the real journal. */
  fault(workload: string, verdict: Verdict = "clean"): FaultId {
    const id = `f-${this.cursor + 1}` as FaultId;
    const site = { fault: "c0ffee00112233445566778899aabbccddeeff00+0x4f2a0", boundary: "" };
    this.#push({ ...this.#head(), kind: "fault", id, workload, signal: "SIGSEGV", site, threadName: "main" });
    this.#push({ ...this.#head(), kind: "silent" });
    const outcome: Outcome = {
      fault: id,
      trial: `${id}.1` as TrialId,
      rung: "abandon",
      verdict,
      evidence: [],
      stopUs: 900,
      probationMs: 2000,
      session: null,
    };
    this.#push({ ...this.#head(), kind: "outcome", outcome });
    return id;
  }

  /** Events named `name`, with their facts. */
  recorded(name: string): readonly EventFacts[] {
    return this.rows.flatMap((row) => (row.kind === "event" && row.event === name ? [row.facts] : []));
  }

  #head(): { n: number; atMs: number } {
    return { n: this.rows.length + 1, atMs: this.clock.wallMs() };
  }

  #push(row: FeedRow): void {
    this.rows.push(row);
    this.#bell.ring();
  }
}
