// SPDX-License-Identifier: Apache-2.0
/**
 * The way of a row from the main thread to the disk: queue, Worker, answer, next batch. Gets rows; gives the cursor of what
 * is durable and the slots whose rows are.
 *
 *     closed ◀── close ── opening ──opened──▶ ready ⇄ writing ──failed──▶ ill ──probe, every 10 s──▶ opening | writing
 *
 * No timer on the way: a batch is what arrived during the last flush. A failed batch goes back to the front of the queue
 * and is offered again; the Worker leaves out what got through all the same.
 */
import { type Clock, deadline } from "#clock.ts";
import { explain, StorageError, unreachable } from "#errors.ts";
import type { PastTrial, TrialId } from "#fault.ts";
import type { Log } from "#log.ts";
import { TaskGroup } from "#tasks.ts";
import type { faultIds } from "./faultId.ts";
import type { SlotIndex } from "./intentRing.ts";
import type { FromWriter, ToWriter } from "./messages.ts";
import { type Dropped, type QueuedRow, RowQueue } from "./rowQueue.ts";
import { eventRow, type JournalRow } from "./rows.ts";

/** While commits fail, one attempt each so often. */
export const probeIntervalMs = 10_000;
/** An orderly stop waits so long for rows to become durable; the rest of them stays in the ring. */
const closePatienceMs = 5_000;

export type Opened = { readonly history: readonly PastTrial[]; readonly settled: readonly TrialId[] };
export type Illness = { readonly code: string; readonly why: string };

export type CommitLoopOptions = {
  readonly directory: string;
  /** Rows found in the ring; written first, then what is open is settled. */
  readonly recovered: readonly JournalRow[];
  readonly clock: Clock;
  readonly log: Log;
  /** Names the row that tells of lost rows. */
  readonly nextId: ReturnType<typeof faultIds>;
  /** Called after each commit, never in the fault path. */
  readonly onCommitted: (slots: readonly SlotIndex[]) => void;
  readonly onOpened: (opened: Opened) => void;
};

export class CommitLoop implements AsyncDisposable {
  readonly #options: CommitLoopOptions;
  readonly #queue = new RowQueue();
  readonly #tasks = new TaskGroup();
  readonly #first = Promise.withResolvers<Opened>();
  readonly #waiters = new Set<() => void>();
  #worker: Worker | null = null;
  #sent: "open" | "write" | "close" | null = null;
  #inFlight: readonly QueuedRow[] = [];
  #again = false;
  #opened = false;
  #closing = false;
  #illness: Illness | null = null;
  #cursor = 0;

  constructor(options: CommitLoopOptions) {
    this.#options = options;
    this.#first.promise.catch(() => {});
    this.#advance();
  }

  /** Resolves at the first opening; rejects where another supervisor holds the directory. May wait for ever. */
  get opened(): Promise<Opened> {
    return this.#first.promise;
  }
  /** Rejects at the first failure, or with the signal's reason. Never resolves. */
  async ill(signal: AbortSignal): Promise<never> {
    while (this.#illness === null) await this.#change(signal);
    throw new StorageError("storage.io", this.#illness.why, { code: this.#illness.code });
  }
  /** Why commits fail now; null while they do not. */
  get illness(): Illness | null {
    return this.#illness;
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

  push(row: JournalRow, slot: SlotIndex | null): void {
    this.#queue.push(row, slot);
    this.#advance();
  }

  /** Resolves once every row pushed so far is durable (or was dropped, which `dropped` counts). */
  async flush(signal?: AbortSignal): Promise<void> {
    const wanted = this.#queue.lastOrder;
    while ((this.#inFlight[0]?.order ?? this.#queue.firstOrder ?? Infinity) <= wanted) await this.#change(signal);
  }

  /** The cursor each time it moved, newest only. Ends by throwing the signal's reason. */
  async *commits(signal: AbortSignal): AsyncGenerator<number> {
    for (let seen = -1; ; ) {
      while (this.#cursor === seen || !this.#opened) await this.#change(signal);
      seen = this.#cursor;
      yield seen;
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const reason = (): Error => new StorageError("storage.io", `rows were not durable within ${closePatienceMs} ms`);
    using patience = deadline(closePatienceMs, reason);
    try {
      if (this.#illness === null) await this.flush(patience.signal);
      this.#closing = true;
      while (this.#sent !== null && this.#illness === null) await this.#change(patience.signal);
      if (this.#worker !== null) this.#send({ kind: "close" });
      while (this.#sent !== null) await this.#change(patience.signal);
    } catch (error) {
      // What is not durable is in the ring; the next start finds it there.
      this.#options.log("warn", "storage.closedEarly", { rows: this.queuedRows, why: explain(error) });
    }
    this.#closing = true;
    this.#worker?.terminate();
    this.#worker = null;
    await this.#tasks[Symbol.asyncDispose]();
  }

  /** Sends what is to be sent next, if the last message was answered. */
  #advance(): void {
    if (this.#sent !== null || this.#illness !== null || this.#closing) return;
    if (!this.#opened) {
      const { directory, recovered, clock } = this.#options;
      this.#send({ kind: "open", directory, recovered, atMs: clock.wallMs() });
      return;
    }
    if (this.#inFlight.length === 0) this.#inFlight = this.#queue.take();
    if (this.#inFlight.length === 0) return;
    this.#send({ kind: "write", rows: this.#inFlight.map((queued) => queued.row), again: this.#again });
  }

  #send(message: ToWriter): void {
    this.#sent = message.kind;
    this.#worker ??= this.#startWorker();
    this.#worker.postMessage(message);
  }

  #startWorker(): Worker {
    const worker = new Worker(new URL("./storageWorker.ts", import.meta.url).href);
    worker.onmessage = (event: MessageEvent<FromWriter>): void => this.#receive(event.data);
    worker.onerror = (event): void => {
      if (this.#worker !== worker) return;
      worker.terminate();
      this.#worker = null;
      this.#receive({ kind: "failed", code: "bug", why: `the storage Worker ended: ${event.message}` });
    };
    return worker;
  }

  #receive(answer: FromWriter): void {
    this.#sent = null;
    switch (answer.kind) {
      case "opened":
        this.#cursor = answer.cursor;
        this.#opened = true;
        this.#recover();
        this.#options.onOpened(answer);
        this.#first.resolve(answer);
        break;
      case "written":
        this.#finishBatch(answer.cursor);
        break;
      case "failed":
        this.#fall(answer);
        break;
      case "closed":
        break;
      default:
        unreachable(answer);
    }
    for (const wake of this.#waiters) wake();
    this.#advance();
  }

  #finishBatch(cursor: number): void {
    const done = this.#inFlight;
    this.#inFlight = [];
    this.#again = false;
    this.#cursor = cursor;
    this.#recover();
    this.#options.onCommitted(done.flatMap((queued) => queued.slot ?? []));
  }

  #fall(failure: Illness): void {
    if (!this.#opened && failure.code === "storage.locked") {
      this.#first.reject(new StorageError("storage.locked", failure.why));
    }
    this.#queue.putBack(this.#inFlight);
    this.#again ||= this.#inFlight.length > 0;
    this.#inFlight = [];
    if (this.#illness === null) this.#options.log("error", "storage.blind", failure);
    this.#illness = { code: failure.code, why: failure.why };
    if (!this.#closing) this.#tasks.start((signal) => this.#probe(signal));
  }

  async #probe(signal: AbortSignal): Promise<void> {
    await this.#options.clock.sleep(probeIntervalMs, signal);
    const before = this.#illness;
    this.#illness = null;
    this.#advance();
    // Still blind until the probe is answered; with nothing to write there is nothing to prove.
    if (this.#sent !== null) this.#illness = before;
  }

  /** Commits work: says so, and writes down first what was lost meanwhile. */
  #recover(): void {
    if (this.#illness !== null) this.#options.log("info", "storage.recovered", { rows: this.#queue.length });
    this.#illness = null;
    const dropped = this.#queue.takeDropped();
    if (dropped === null) return;
    const { nextId, clock } = this.#options;
    const head = { event: "rowsLost", workload: "", facts: dropped };
    this.#queue.push(eventRow(`e-${nextId()}`, head, clock.wallMs()), null);
  }

  #change(signal?: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      if (signal?.aborted) return reject(signal.reason);
      const cancel = (): void => {
        this.#waiters.delete(wake);
        reject(signal?.reason);
      };
      const wake = (): void => {
        this.#waiters.delete(wake);
        signal?.removeEventListener("abort", cancel);
        resolve();
      };
      this.#waiters.add(wake);
      signal?.addEventListener("abort", cancel, { once: true });
    });
  }
}
