// SPDX-License-Identifier: Apache-2.0
/**
 * The outbox over storage: rows go to the storage Worker, durable rows are read back by cursor. Gets the storage and its
 * directory; gives the `Outbox` that telemetry is written against.
 *
 * Notes are held in memory and written through; keys are read again after a second, because `holdfast keys` may change them
 * while this runs. A file that cannot be read gives nothing for now: telemetry waits, and storage says what is wrong.
 */
import { type Clock, deadline } from "#clock.ts";
import { StorageError } from "#errors.ts";
import type { Log } from "#log.ts";
import type { MessageClass, OutboxRow } from "#storage/outbox.ts";
import * as reader from "#storage/outboxReader.ts";
import { Bell } from "./bell.ts";
import type { Dropped, Lane, LaneDepth, Note, NoteKind, Outbox, OutMessage, QueuedMessage } from "./outbox.ts";

/** The part of `Storage` that is needed here. */
export interface OutboxStorage {
  outbox(row: OutboxRow): void;
  flush(signal: AbortSignal | undefined, file: "outbox"): Promise<void>;
  commits(signal: AbortSignal, file: "outbox"): AsyncIterable<number>;
}

export type StoredOutboxOptions = {
  readonly storage: OutboxStorage;
  readonly directory: string;
  readonly clock: Clock;
  readonly log: Log;
};

type Head = Pick<OutMessage, "schema" | "boot" | "n" | "quality"> & { readonly correlation?: string };
const openPatienceMs = 2_000;
const keysFreshMs = 1_000;
/** Acknowledgements gathered into one row, and for how long at most: if we die before, the broker gets them twice. */
const acknowledgedMax = 128;
const acknowledgeMs = 50;
const classes: readonly MessageClass[] = ["metric", "info", "warning", "fault"];

export class StoredOutbox implements Outbox {
  readonly #options: StoredOutboxOptions;
  readonly #notes = new Map<NoteKind, Map<string, string>>();
  readonly #depth: Record<Lane, { rows: number; bytes: number; oldestMs: number | null }>;
  readonly #sizes = new Map<number, number>();
  readonly #told = new Map<Lane, number>();
  readonly #version: Record<Lane, number> = { event: 0, metric: 0 };
  readonly #settling = new Map<Lane, "once" | "again">();
  readonly #durable = new Bell();
  #acknowledged: number[] = [];
  #keysAtNs = Number.NEGATIVE_INFINITY;
  #cursor: number;

  /** Waits until storage has the file open, or is late with it, and reads what is there. Blocks for the disk while it reads. */
  static async open(options: StoredOutboxOptions, signal?: AbortSignal): Promise<StoredOutbox> {
    using patience = deadline(
      openPatienceMs,
      () => new StorageError("storage.io", "the outbox is not open yet"),
      signal,
    );
    try {
      for await (const _ of options.storage.commits(patience.signal, "outbox")) break;
    } catch (error) {
      signal?.throwIfAborted();
      // An ill file may still be read; if not, everything in it comes when it is well again.
      options.log("warn", "telemetry.outboxLate", { why: String(error) });
    }
    return new StoredOutbox(options);
  }

  private constructor(options: StoredOutboxOptions) {
    const { directory } = options;
    this.#options = options;
    for (const { group, id, head } of this.#try(() => reader.readNotes(directory), []))
      this.#map(group as NoteKind).set(id, head);
    for (const { id, head } of this.#try(() => reader.readJobs(directory), [])) this.#map("job").set(id, head);
    for (const { id, untilMs } of this.#try(() => reader.readCommands(directory), []))
      this.#map("command").set(id, String(untilMs));
    this.#cursor = this.#try(() => reader.readNewestMessage(directory), 0);
    this.#depth = { event: this.#readDepth("event"), metric: this.#readDepth("metric") };
    for (const { lane, rows } of this.#try(() => reader.readDropped(directory), [])) this.#told.set(lane, rows);
  }

  append(messages: readonly OutMessage[]): void {
    for (const message of messages) {
      const { id, lane, rank, topic, atMs, payload, schema, boot, n, quality, correlation } = message;
      const head: Head = {
        ...{ schema, boot, n, quality },
        ...(correlation === undefined ? {} : { correlation: new Uint8Array(correlation).toBase64() }),
      };
      const kind = lane === "event" && topic.endsWith("/e/audit") ? "audit" : classes[rank]!;
      // A window of a larger buffer would be copied to the Worker with all of it.
      const body = payload.byteLength === payload.buffer.byteLength ? payload : new Uint8Array(payload);
      const row = {
        kind: "message",
        id,
        class: kind,
        topic,
        retained: false,
        atMs,
        body,
        head: JSON.stringify(head),
      } as const;
      this.#options.storage.outbox(row);
      const depth = this.#depth[lane];
      depth.rows += 1;
      depth.bytes += payload.length;
      depth.oldestMs ??= atMs;
      this.#settle(lane);
    }
  }

  next(lane: Lane, after: number, limit: number): readonly QueuedMessage[] {
    const rows = this.#try(() => reader.readLane(this.#options.directory, lane, after, limit), []);
    return rows.flatMap((row) => {
      this.#sizes.set(row.n, row.body.length);
      return queued(lane, row);
    });
  }

  newest(_lane: Lane): number {
    return this.#cursor;
  }

  version(lane: Lane): number {
    return this.#version[lane];
  }

  acknowledge(lane: Lane, cursor: number): void {
    this.#acknowledged.push(cursor);
    if (this.#acknowledged.length >= acknowledgedMax) this.#tellAcknowledged();
    else if (this.#acknowledged.length === 1)
      void this.#options.clock.sleep(acknowledgeMs).then(() => this.#tellAcknowledged());
    const depth = this.#depth[lane];
    depth.rows = Math.max(0, depth.rows - 1);
    depth.bytes = Math.max(0, depth.bytes - (this.#sizes.get(cursor) ?? 0));
    this.#sizes.delete(cursor);
    if (depth.rows === 0) depth.oldestMs = null;
  }

  depth(lane: Lane): LaneDepth {
    return { ...this.#depth[lane] };
  }

  takeDropped(): readonly Dropped[] {
    const totals = this.#try(() => reader.readDropped(this.#options.directory), []);
    const fresh = totals.flatMap((total) => {
      const rows = total.rows - (this.#told.get(total.lane) ?? 0);
      this.#told.set(total.lane, total.rows);
      return rows > 0 ? [{ ...total, rows }] : [];
    });
    for (const { lane } of fresh) this.#depth[lane] = this.#readDepth(lane);
    return fresh;
  }

  notes(kind: NoteKind): readonly Note[] {
    if (kind === "key") this.#refreshKeys();
    return [...this.#map(kind)].map(([id, value]) => ({ id, value }));
  }

  note(kind: NoteKind, id: string): string | null {
    if (kind === "key") this.#refreshKeys();
    return this.#map(kind).get(id) ?? null;
  }

  putNote(kind: NoteKind, id: string, value: string | null): void {
    const atMs = this.#options.clock.wallMs();
    const { storage } = this.#options;
    if (value === null) this.#map(kind).delete(id);
    else this.#map(kind).set(id, value);
    if (kind === "key") {
      this.#keysAtNs = this.#options.clock.monotonicNs();
      storage.outbox({ kind: "key", id, atMs, head: value });
    } else if (kind === "job" && value !== null) storage.outbox({ kind: "job", id, atMs, head: value });
    // Seen ids leave the file by their age.
    else if (kind === "command" && value !== null) {
      storage.outbox({ kind: "command", id, key: id.split("/")[0] ?? "", counter: Number(value), atMs });
    } else if (kind !== "command" && kind !== "job")
      storage.outbox({ kind: "note", group: kind, id, atMs, head: value });
  }

  async *commits(signal: AbortSignal): AsyncGenerator<void> {
    void this.#followCursor(signal);
    for (;;) {
      yield;
      await this.#durable.wait(signal);
    }
  }

  flush(signal?: AbortSignal): Promise<void> {
    this.#tellAcknowledged();
    return this.#options.storage.flush(signal, "outbox");
  }

  /** Tells of a lane's messages once they are durable; one wait for all that came meanwhile. */
  #settle(lane: Lane): void {
    const known = this.#settling.get(lane);
    this.#settling.set(lane, known === undefined ? "once" : "again");
    if (known !== undefined) return;
    void this.#options.storage.flush(undefined, "outbox").then(() => {
      const again = this.#settling.get(lane) === "again";
      this.#settling.delete(lane);
      this.#version[lane] += 1;
      this.#durable.ring();
      if (again) this.#settle(lane);
    });
  }

  async #followCursor(signal: AbortSignal): Promise<void> {
    try {
      for await (const cursor of this.#options.storage.commits(signal, "outbox"))
        this.#cursor = Math.max(this.#cursor, cursor);
    } catch {
      // The signal: nobody asks for the cursor any more.
    }
  }

  /** Many acknowledgements are one row: a drain would else be mostly the garbage of rows. */
  #tellAcknowledged(): void {
    if (this.#acknowledged.length === 0) return;
    this.#options.storage.outbox({ kind: "sent", n: this.#acknowledged });
    this.#acknowledged = [];
  }

  #refreshKeys(): void {
    const { clock, directory } = this.#options;
    if (clock.monotonicNs() - this.#keysAtNs < keysFreshMs * 1e6) return;
    this.#keysAtNs = clock.monotonicNs();
    const keys = this.#try(() => reader.readKeys(directory), null);
    if (keys !== null) this.#notes.set("key", new Map(keys.map(({ id, head }) => [id, head])));
  }

  #readDepth(lane: Lane): { rows: number; bytes: number; oldestMs: number | null } {
    return {
      ...this.#try(() => reader.readDepth(this.#options.directory, lane), { rows: 0, bytes: 0, oldestMs: null }),
    };
  }

  #map(kind: NoteKind): Map<string, string> {
    let map = this.#notes.get(kind);
    if (map === undefined) {
      map = new Map();
      this.#notes.set(kind, map);
    }
    return map;
  }

  #try<Value>(read: () => Value, otherwise: Value): Value {
    try {
      return read();
    } catch (error) {
      if (!(error instanceof StorageError)) throw error;
      this.#options.log("warn", "telemetry.outboxUnreadable", { why: error.message });
      return otherwise;
    }
  }
}

/** A row that cannot be understood is not sent; it leaves by its age. */
function queued(lane: Lane, row: reader.LaneMessage): QueuedMessage[] {
  let head: Head;
  try {
    head = JSON.parse(row.head) as Head;
  } catch {
    return [];
  }
  const { schema, boot, n, quality, correlation } = head;
  const rank = Math.max(0, Math.min(3, classes.indexOf(row.class === "audit" ? "fault" : row.class))) as 0 | 1 | 2 | 3;
  const bytes = correlation === undefined ? {} : { correlation: Uint8Array.fromBase64(correlation) };
  const { id, topic, atMs, body: payload, n: cursor } = row;
  return [{ id, lane, rank, topic, schema, payload, atMs, boot, n, quality, cursor, ...bytes }];
}
