// SPDX-License-Identifier: Apache-2.0
/**
 * The way of the rows of one file from the main thread to the disk: queue, Worker, answer, next batch. Gets rows; gives the
 * cursor of what is durable and the slots whose rows are.
 *
 *     opening ──opened──▶ ready ⇄ writing ──failed──▶ ill ──probe, every 10 s──▶ opening | writing
 *
 * No timer on the way: a batch is what arrived during the last flush, or in one turn of the main thread. A failed batch goes back to the front of the queue
 * and is offered again; the Worker leaves out what got through all the same.
 */
import type { Clock } from "#clock.ts";
import { StorageError } from "#errors.ts";
import type { Log } from "#log.ts";
import { TaskGroup } from "#tasks.ts";
import type { SlotIndex } from "./intentRing.ts";
import type { Condition, FromWriter, LaneName, RowOf, ToWriter } from "./messages.ts";
import { type Dropped, type QueuedRow, RowQueue, rowPolicies } from "./rowQueue.ts";
import type { JournalRow } from "./rows.ts";
import type { WriterPort } from "./writerPort.ts";

/** While commits fail, one attempt each so often. */
export const probeIntervalMs = 10_000;
/** A disk that takes longer than this is shown as ill; its answer is still taken when it comes. */
const answerMsMax = 10_000;

export type Opened = Extract<FromWriter, { kind: "opened" }>;
export type Failed = Extract<FromWriter, { kind: "failed" }>;
export type Illness = { readonly code: string; readonly why: string };

export type LaneOptions<Name extends LaneName> = {
  readonly file: Name;
  readonly port: WriterPort;
  readonly clock: Clock;
  readonly log: Log;
  /** Rows of the ring, for the journal: written first, then what is open is settled. */
  readonly recovered?: readonly JournalRow[];
  /** A row that tells of lost rows, written first once commits work again; null for files that have no such row. */
  readonly lossRow: (dropped: Dropped) => RowOf[Name] | null;
  /** A row whose commit proves that the disk is well again; null where there is none and only real rows prove it. */
  readonly probeRow: (illness: Illness) => RowOf[Name] | null;
  readonly onOpened?: (opened: Opened) => void;
  readonly onFailed?: (failed: Failed) => void;
  /** Called after each commit, never in the fault path. */
  readonly onCommitted: (slots: readonly SlotIndex[]) => void;
  readonly onCondition: (condition: Condition) => void;
};

export class Lane<Name extends LaneName> implements AsyncDisposable {
  readonly #options: LaneOptions<Name>;
  readonly #queue: RowQueue<RowOf[Name]>;
  readonly #tasks = new TaskGroup();
  readonly #first = Promise.withResolvers<Opened>();
  readonly #waiters = new Set<() => void>();
  #waiting = false;
  /** Rows pushed in one turn of the main thread, such as a report and its intent, go in one batch. */
  #gathering = false;
  #sentAtNs = 0;
  #inFlight: readonly QueuedRow<RowOf[Name]>[] = [];
  #again = false;
  #opened = false;
  #closing = false;
  #illness: Illness | null = null;
  #probing = false;
  #cursor = 0;

  constructor(options: LaneOptions<Name>) {
    this.#options = options;
    this.#queue = new RowQueue(rowPolicies[options.file]);
    this.#first.promise.catch(() => {});
    this.#advance();
  }

  /** Resolves at the first opening; rejects where another supervisor holds the directory. May wait for ever. */
  get opened(): Promise<Opened> {
    return this.#first.promise;
  }
  /** Why commits fail now, or that the disk has not answered for long; null while all is well. */
  get illness(): Illness | null {
    const waitedMs = this.#waiting ? (this.#options.clock.monotonicNs() - this.#sentAtNs) / 1e6 : 0;
    if (this.#illness !== null || waitedMs < answerMsMax) return this.#illness;
    return { code: "storage.io", why: `no answer from the disk for ${Math.floor(waitedMs / 1000)} s` };
  }
  /** Number of the newest durable row. */
  get cursor(): number {
    return this.#cursor;
  }
  get queuedRows(): number {
    return this.#queue.length + this.#inFlight.length;
  }
  get dropped(): Dropped {
    return this.#queue.dropped;
  }

  push(row: RowOf[Name], slot: SlotIndex | null = null): void {
    this.#queue.push(row, slot);
    if (this.#gathering) return;
    this.#gathering = true;
    queueMicrotask(() => {
      this.#gathering = false;
      this.#advance();
    });
  }

  /** Resolves once every row pushed so far is durable (or was dropped, which `dropped` counts). */
  async flush(signal?: AbortSignal): Promise<void> {
    const wanted = this.#queue.lastOrder;
    while ((this.#inFlight[0]?.order ?? this.#queue.firstOrder ?? Number.POSITIVE_INFINITY) <= wanted) {
      await this.#change(signal);
    }
  }

  /** The cursor each time it moved, newest only. Ends by throwing the signal's reason. */
  async *commits(signal: AbortSignal): AsyncGenerator<number> {
    for (let seen = -1; ; ) {
      while (this.#cursor === seen || !this.#opened) await this.#change(signal);
      seen = this.#cursor;
      yield seen;
    }
  }

  /** Rejects at the first failure, or with the signal's reason. Never resolves. */
  async failed(signal: AbortSignal): Promise<never> {
    while (this.#illness === null) await this.#change(signal);
    throw new StorageError("storage.io", this.#illness.why, { code: this.#illness.code });
  }

  /** Waits until nothing is under way; from then on nothing more is sent. */
  async finish(signal: AbortSignal): Promise<void> {
    if (this.#illness === null) await this.flush(signal);
    this.#closing = true;
    while (this.#waiting) await this.#change(signal);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closing = true;
    await this.#tasks[Symbol.asyncDispose]();
  }

  /** Sends what is to be sent next, if the last message was answered. */
  #advance(): void {
    if (this.#waiting || this.#closing || (this.#illness !== null && !this.#probing)) return;
    const { file, recovered = [] } = this.#options;
    if (!this.#opened) {
      this.#send({ kind: "open", file, recovered });
      return;
    }
    if (this.#inFlight.length === 0) this.#inFlight = this.#queue.take();
    if (this.#inFlight.length === 0) return;
    const rows = this.#inFlight.map((queued) => queued.row);
    this.#send({ kind: "write", file, rows, again: this.#again });
  }

  #send(message: ToWriter): void {
    this.#waiting = true;
    this.#sentAtNs = this.#options.clock.monotonicNs();
    this.#options.port.send(message, (answer) => this.#receive(answer));
  }

  #receive(answer: FromWriter): void {
    this.#waiting = false;
    if (answer.kind === "opened") this.#beginWriting(answer);
    else if (answer.kind === "written") this.#finishBatch(answer.cursor);
    else if (answer.kind === "failed") this.#fall(answer);
    // Only now: whoever hears of the condition may push rows, and those must find the last batch finished.
    if ("condition" in answer && answer.condition !== null) this.#options.onCondition(answer.condition);
    for (const wake of [...this.#waiters]) wake();
    this.#advance();
  }

  #beginWriting(opened: Opened): void {
    this.#cursor = opened.cursor;
    this.#opened = true;
    this.#options.onOpened?.(opened);
    this.#recover();
    this.#first.resolve(opened);
  }

  #finishBatch(cursor: number): void {
    const done = this.#inFlight;
    this.#inFlight = [];
    this.#again = false;
    this.#cursor = Math.max(this.#cursor, cursor);
    this.#recover();
    this.#options.onCommitted(done.flatMap((queued) => queued.slot ?? []));
  }

  #fall(failure: Failed): void {
    const { code, why } = failure;
    if (!this.#opened && code === "storage.locked") this.#first.reject(new StorageError("storage.locked", why));
    this.#queue.putBack(this.#inFlight);
    this.#again ||= this.#inFlight.length > 0;
    this.#inFlight = [];
    if (this.#illness === null) this.#options.log("error", "storage.blind", { file: this.#options.file, code, why });
    this.#illness = { code, why };
    this.#probing = false;
    this.#options.onFailed?.(failure);
    if (!this.#closing) this.#tasks.start((signal) => this.#probe(signal));
  }

  /** Still ill until the probe is answered: only a commit proves that the disk is well. */
  async #probe(signal: AbortSignal): Promise<void> {
    await this.#options.clock.sleep(probeIntervalMs, signal);
    const probe = this.#queue.length === 0 ? this.#options.probeRow(this.#illness!) : null;
    if (probe !== null) this.#queue.push(probe, null);
    this.#probing = true;
    this.#advance();
  }

  /** Commits work: says so, and writes down first what was lost meanwhile. */
  #recover(): void {
    if (this.#illness !== null) {
      this.#options.log("info", "storage.recovered", { file: this.#options.file, rows: this.#queue.length });
    }
    this.#illness = null;
    this.#probing = false;
    const dropped = this.#queue.takeDropped();
    const row = dropped === null ? null : this.#options.lossRow(dropped);
    if (row !== null) this.#queue.pushFirst(row);
  }

  #change(signal?: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      if (signal?.aborted) return reject(signal.reason);
      const stop = (): void => {
        this.#waiters.delete(wake);
        signal?.removeEventListener("abort", cancel);
      };
      const wake = (): void => {
        stop();
        resolve();
      };
      const cancel = (): void => {
        stop();
        reject(signal?.reason);
      };
      this.#waiters.add(wake);
      signal?.addEventListener("abort", cancel, { once: true });
    });
  }
}
