// SPDX-License-Identifier: Apache-2.0
/**
 * The journal as telemetry sees it: durable rows by cursor, and a way to write down what telemetry itself did. Nothing is
 * pushed past the journal: an audit event of a command is written there first and comes back through `read`.
 */
import type { FaultId, FaultSignal, Outcome, Site } from "#fault.ts";
import type { VerbScalar } from "#verbs.ts";

export type EventFacts = Readonly<Record<string, VerbScalar | null | undefined>>;

type RowHead = { readonly n: number; readonly atMs: number };
export type FeedRow =
  | (RowHead & {
      readonly kind: "fault";
      readonly id: FaultId;
      readonly workload: string;
      readonly signal: FaultSignal;
      readonly site: Site;
      readonly threadName: string;
    })
  | (RowHead & { readonly kind: "outcome"; readonly outcome: Outcome })
  | (RowHead & {
      readonly kind: "event";
      readonly id: string;
      readonly event: string;
      readonly workload: string;
      readonly facts: EventFacts;
    })
  /** A row that is not published (an intent, a kind we do not know): it only moves the cursor. */
  | (RowHead & { readonly kind: "silent" });

export interface JournalFeed {
  /** Durable rows with a number above `after`, oldest first, at most `limit`; null where they cannot be read now. May block. */
  read(after: number, limit: number): readonly FeedRow[] | null;
  /** The newest durable number, each time it moved; first the present one. */
  commits(signal: AbortSignal): AsyncIterable<number>;
  readonly cursor: number;
  /** Writes an event down. Never throws and never waits. */
  record(event: string, workload: string, facts: EventFacts): void;
}
