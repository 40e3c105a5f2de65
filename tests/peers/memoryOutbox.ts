// SPDX-License-Identifier: Apache-2.0
/**
 * An outbox in memory with the behaviour of the durable one: rows are durable after a flush, and not before. Gets messages
 * and notes; gives them back. For tests of telemetry and for the thousand boxes of the simulator; caps by rows only.
 *
 * A test may hold the disk (`hold`), which makes every flush wait, as it does while the real one is blind.
 */
import { Bell } from "#telemetry/bell.ts";
import type { Dropped, Lane, LaneDepth, Note, NoteKind, Outbox, OutMessage, QueuedMessage } from "#telemetry/outbox.ts";

export class MemoryOutbox implements Outbox {
  readonly #rows = { event: new Map<number, QueuedMessage>(), metric: new Map<number, QueuedMessage>() };
  readonly #ids = new Set<string>();
  readonly #notes = new Map<string, string>();
  readonly #never = new AbortController().signal;
  readonly #committed = new Bell();
  #volatile: OutMessage[] = [];
  #cursor = 0;
  #newest = { event: 0, metric: 0 };
  #dropped: Dropped[] = [];
  #held: Bell | null = null;

  constructor(private readonly rowsMax = 1_000_000) {}

  /** Makes flushes wait until the returned function is called. */
  hold(): () => void {
    const bell = new Bell();
    this.#held = bell;
    return () => {
      this.#held = null;
      bell.ring();
    };
  }

  append(messages: readonly OutMessage[]): void {
    this.#volatile.push(...messages);
    queueMicrotask(() => {
      if (this.#held === null) this.#settle();
    });
  }

  next(lane: Lane, after: number, limit: number): readonly QueuedMessage[] {
    const found: QueuedMessage[] = [];
    for (const row of this.#rows[lane].values()) {
      if (row.cursor > after) found.push(row);
      if (found.length === limit) break;
    }
    return found;
  }

  newest(lane: Lane): number {
    return this.#newest[lane];
  }

  acknowledge(lane: Lane, cursor: number): void {
    const row = this.#rows[lane].get(cursor);
    if (row !== undefined) this.#remove(lane, row);
  }

  depth(lane: Lane): LaneDepth {
    const rows = [...this.#rows[lane].values()];
    return {
      rows: rows.length,
      bytes: rows.reduce((sum, row) => sum + row.payload.length, 0),
      oldestMs: rows[0]?.atMs ?? null,
    };
  }

  takeDropped(): readonly Dropped[] {
    const dropped = this.#dropped;
    this.#dropped = [];
    return dropped;
  }

  notes(kind: NoteKind): readonly Note[] {
    const prefix = `${kind}\0`;
    return [...this.#notes].flatMap(([key, value]) =>
      key.startsWith(prefix) ? [{ id: key.slice(prefix.length), value }] : [],
    );
  }

  note(kind: NoteKind, id: string): string | null {
    return this.#notes.get(`${kind}\0${id}`) ?? null;
  }

  putNote(kind: NoteKind, id: string, value: string | null): void {
    if (value === null) this.#notes.delete(`${kind}\0${id}`);
    else this.#notes.set(`${kind}\0${id}`, value);
  }

  async flush(signal: AbortSignal = this.#never): Promise<void> {
    // As with the real one, the answer never comes in the same turn.
    await Promise.resolve();
    while (this.#held !== null) await this.#held.wait(signal);
    this.#settle();
  }

  version(_lane: Lane): number {
    return this.#cursor;
  }

  async *commits(signal: AbortSignal): AsyncGenerator<void> {
    for (;;) {
      yield;
      await this.#committed.wait(signal);
    }
  }

  #settle(): void {
    for (const message of this.#volatile.splice(0)) this.#insert(message);
    this.#committed.ring();
  }

  #insert(message: OutMessage): void {
    if (this.#ids.has(message.id)) return;
    this.#ids.add(message.id);
    this.#cursor += 1;
    this.#rows[message.lane].set(this.#cursor, { ...message, cursor: this.#cursor });
    this.#newest[message.lane] = this.#cursor;
    const rows = this.#rows[message.lane];
    if (rows.size <= this.rowsMax) return;
    const oldest = rows.values().next().value!;
    this.#remove(message.lane, oldest);
    this.#dropped.push({ lane: message.lane, rows: 1, fromMs: oldest.atMs, toMs: oldest.atMs });
  }

  #remove(lane: Lane, row: QueuedMessage): void {
    this.#rows[lane].delete(row.cursor);
    this.#ids.delete(row.id);
  }
}
