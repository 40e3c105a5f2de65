// SPDX-License-Identifier: Apache-2.0
/**
 * The journal over storage, as telemetry pulls it: rows by cursor, read-only, and events of telemetry written back. Gets the
 * storage and its directory. A row whose head is damaged or of a kind that is not published is silent: it moves the cursor.
 */
import { StorageError } from "#errors.ts";
import type { FaultId, Outcome } from "#fault.ts";
import { type JournalEntry, readEntries } from "#storage/cursorReader.ts";
import type { EventHead, FaultHead } from "#storage/rows.ts";
import type { VerbScalar } from "#verbs.ts";
import type { EventFacts, FeedRow, JournalFeed } from "./feed.ts";

/** The part of `Storage` that is needed here. */
export interface JournalStorage {
  event(event: string, workload: string, facts: unknown): void;
  commits(signal: AbortSignal, file: "journal"): AsyncIterable<number>;
  readonly durableCursor: number;
}

export class StoredFeed implements JournalFeed {
  readonly #storage: JournalStorage;
  readonly #directory: string;

  constructor(storage: JournalStorage, directory: string) {
    this.#storage = storage;
    this.#directory = directory;
  }

  get cursor(): number {
    return this.#storage.durableCursor;
  }

  read(after: number, limit: number): readonly FeedRow[] | null {
    try {
      return readEntries(this.#directory, after, limit).map(feedRow);
    } catch (error) {
      // A journal that cannot be read is storage's trouble; the cursor stays, and the rows come when it is well again.
      if (error instanceof StorageError) return null;
      throw error;
    }
  }

  commits(signal: AbortSignal): AsyncIterable<number> {
    return this.#storage.commits(signal, "journal");
  }

  record(event: string, workload: string, facts: EventFacts): void {
    this.#storage.event(event, workload, facts);
  }
}

function feedRow({ n, id, kind, atMs, head }: JournalEntry): FeedRow {
  const silent: FeedRow = { kind: "silent", n, atMs };
  if (head === null || typeof head !== "object") return silent;
  switch (kind) {
    case "fault": {
      const { workload, signal, site, threadName } = head as FaultHead;
      return { kind: "fault", n, atMs, id: id as FaultId, workload, signal, site, threadName };
    }
    case "outcome":
      return { kind: "outcome", n, atMs, outcome: head as Outcome };
    case "event": {
      const { event, workload, facts } = head as EventHead;
      return { kind: "event", n, atMs, id, event, workload, facts: flat(facts) };
    }
    default:
      return silent;
  }
}

/** Facts of any shape as flat scalars; what is deeper is not published. */
function flat(facts: unknown): EventFacts {
  if (typeof facts !== "object" || facts === null) return {};
  const scalars = Object.entries(facts).filter(([, value]) => ["string", "number", "boolean"].includes(typeof value));
  return Object.fromEntries(scalars) as Record<string, VerbScalar>;
}
