// SPDX-License-Identifier: Apache-2.0
/**
 * What telemetry needs of a durable store: a queue of messages that leave only when acknowledged, and small facts (notes)
 * that survive. `storage` implements it over outbox.db; tests have one in memory.
 *
 * Nothing here throws for an ill disk: what is appended waits, and `flush` says when it is durable. `next` gives durable
 * rows only, so what the broker got is never more than what we would remember.
 */
import type { DropRank } from "./events.ts";
import type { TimeQuality } from "./payloads.ts";

/** Events are never behind metrics. */
export type Lane = "event" | "metric";

export type OutMessage = {
  /** The same id is queued once. */
  readonly id: string;
  readonly lane: Lane;
  readonly rank: DropRank;
  readonly topic: string;
  /** `name/major.minor`, told to v5 readers. */
  readonly schema: string;
  readonly payload: Uint8Array;
  readonly atMs: number;
  readonly boot: string;
  /** Number in the journal; 0 for what has none. */
  readonly n: number;
  readonly quality: TimeQuality;
  /** v5 correlation data of an answer. */
  readonly correlation?: Uint8Array;
};
export type QueuedMessage = OutMessage & { readonly cursor: number };

/**
 * Small facts by kind: `session` (number of the connect), `position` (journal cursor and translation state), `clock` (marks),
 * `kept` (retained topics), `job`, `command` (seen ids), `counter` (windows of keys), `key` (trust list), `record` and
 * `floor` (rescue records and their highest revisions), `deny`, `herdKey` (our own key and grant).
 */
export type NoteKind =
  | "session"
  | "position"
  | "clock"
  | "kept"
  | "job"
  | "command"
  | "counter"
  | "key"
  | "record"
  | "floor"
  | "deny"
  | "herdKey";
export type Note = { readonly id: string; readonly value: string };

export type Dropped = { readonly lane: Lane; readonly rows: number; readonly fromMs: number; readonly toMs: number };
export type LaneDepth = { readonly rows: number; readonly bytes: number; readonly oldestMs: number | null };

export interface Outbox {
  append(messages: readonly OutMessage[]): void;
  /** Durable messages above the cursor, oldest first. */
  next(lane: Lane, after: number, limit: number): readonly QueuedMessage[];
  /** A cursor that all durable messages of a lane are at or below. */
  newest(lane: Lane): number;
  /** Changes whenever messages of a lane became durable: until then a reader that found nothing need not look again. */
  version(lane: Lane): number;
  acknowledge(lane: Lane, cursor: number): void;
  depth(lane: Lane): LaneDepth;
  /** What caps and age took since the last call. */
  takeDropped(): readonly Dropped[];

  notes(kind: NoteKind): readonly Note[];
  note(kind: NoteKind, id: string): string | null;
  /** null removes it. */
  putNote(kind: NoteKind, id: string, value: string | null): void;

  /** Yields whenever a version changed. One reader. Ends by throwing the signal's reason. */
  commits(signal: AbortSignal): AsyncIterable<void>;
  /** Resolves once everything so far is durable. While the disk is ill that may be long. */
  flush(signal?: AbortSignal): Promise<void>;
}
