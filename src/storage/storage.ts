// SPDX-License-Identifier: Apache-2.0
/**
 * Storage as the rest of the supervisor sees it, on the main thread. Gets intents, reports, outcomes, events, samples and
 * messages; gives the history and the cursor of what is durable. Three laws: a stopped thread never waits for a disk; what
 * was acknowledged (the cursor) is never lost; a damaged file costs its own content and nothing else.
 *
 *     intent ──▶ ring slot (stores into tmpfs)        report, outcome, event ──▶ lane ──▶ Worker ──▶ commit
 *                  └─────────────── freed when its rows are committed ◀──────────────────────┘
 *
 * Nothing here throws after `open`, and no statement that can write runs on this thread. While commits to the journal fail
 * it is *blind*: rows wait in the ring and in the queue, and a probe is made every ten seconds.
 */
import { type Clock, deadline, type Random, systemRandom } from "#clock.ts";
import { explain, StorageError } from "#errors.ts";
import type { Decision, FaultId, FaultReport, Outcome, PastTrial, Plan, TrialId } from "#fault.ts";
import type { Log } from "#log.ts";
import { TaskGroup } from "#tasks.ts";
import { faultIds } from "./faultId.ts";
import { Idle } from "./idle.ts";
import type { SlotIndex } from "./intentRing.ts";
import type { JournalMemory } from "./journal.ts";
import { Lane } from "./lane.ts";
import { defaultLimits, type StorageLimits } from "./limits.ts";
import type { Condition, FromWriter, LaneName, ToWriter } from "./messages.ts";
import type { OutboxRow } from "./outbox.ts";
import { RingBooks } from "./ringBooks.ts";
import type { Dropped } from "./rowQueue.ts";
import { eventRow, faultRow, intentRow, namedRow, outcomeRow, rungOf } from "./rows.ts";
import type { IntentFacts, Slot } from "./slot.ts";
import { publishState, type StorageState, withdrawState } from "./stateFile.ts";
import { WriterPort } from "./writerPort.ts";

/** A disk that has not answered by then is left to answer later; guarding comes before remembering. */
const openPatienceMs = 2_000;
/** An orderly stop waits so long for rows to become durable; what is not stays in the ring. */
const closePatienceMs = 5_000;

/** Of each rehearsal; a guard rehearses 200 times (measured in one: 11 us for an intent at a fault, 25 with one round). */
const rehearsalRounds = 50;

export type StorageOptions = {
  /** The state directory of this guard, such as STATE/guards/NAME. */
  readonly directory: string;
  readonly runDirectory: string;
  readonly clock: Clock;
  readonly log: Log;
  readonly random?: Random;
  readonly limits?: Partial<StorageLimits>;
  readonly signal?: AbortSignal;
};

export class Storage implements AsyncDisposable {
  readonly #clock: Clock;
  readonly #log: Log;
  readonly #directory: string;
  readonly #port: WriterPort;
  readonly #ring: RingBooks;
  readonly #journal: Lane<"journal">;
  readonly #outbox: Lane<"outbox">;
  readonly #history: Lane<"history">;
  readonly #idle: Idle;
  readonly #tasks: TaskGroup;
  /** Makes the ids of this supervisor's faults. */
  readonly nextFaultId: () => FaultId;
  #memory: JournalMemory;
  #settled: readonly TrialId[] = [];
  #condition: Condition | null = null;
  #lastReported = "";
  #practised: { readonly facts: IntentFacts; readonly decision: Decision } | null = null;
  #published = "";

  /**
   * Replays the ring and settles the journal before it resolves, unless the disk fails or takes longer than two seconds:
   * then it resolves blind and goes on behind. @throws StorageError storage.locked where another supervisor holds the
   * directory; everything else is a state, not an error
   */
  static async open(options: StorageOptions): Promise<Storage> {
    const storage = new Storage(
      options,
      RingBooks.open(options.runDirectory, options.directory, options.clock.wallMs(), options.log),
    );
    const slow = (): Error => new StorageError("storage.io", `no answer from the disk within ${openPatienceMs} ms`);
    using patience = deadline(openPatienceMs, slow, options.signal);
    const answered = new AbortController();
    try {
      const failed = storage.#journal.failed(AbortSignal.any([patience.signal, answered.signal]));
      await Promise.race([storage.#journal.opened, failed]);
    } catch (error) {
      if (!(error instanceof StorageError) || error.code === "storage.locked") {
        await storage[Symbol.asyncDispose]();
        throw error;
      }
      options.log("warn", "storage.openedBlind", { why: explain(error) });
    } finally {
      answered.abort();
    }
    storage.#tasks.start((signal) => storage.#idle.run(() => storage.#upkeepSlice(signal), signal));
    storage.#publish();
    return storage;
  }

  private constructor(options: StorageOptions, ring: RingBooks) {
    const { clock, log, directory } = options;
    this.#clock = clock;
    this.#log = log;
    this.#directory = directory;
    this.#ring = ring;
    this.#idle = new Idle(clock);
    this.#tasks = new TaskGroup();
    this.nextFaultId = faultIds(clock, options.random ?? systemRandom);
    this.#memory = { history: historyOfRing(ring.found), learned: new Map(), windows: new Map() };
    this.#port = new WriterPort(directory, { ...defaultLimits, ...options.limits });
    const shared = {
      port: this.#port,
      clock,
      log,
      onCommitted: (slots: readonly SlotIndex[]) => this.#committed(slots),
      onCondition: (condition: Condition) => this.#learnCondition(condition),
    };
    this.#journal = new Lane({
      ...shared,
      file: "journal",
      recovered: ring.recovered,
      lossRow: (dropped) => this.#eventRow("rowsLost", "", dropped),
      probeRow: ({ code, why }) => this.#eventRow("storageIll", "", { code, why }),
      onOpened: ({ memory, settled }) => {
        ring.forgetFound();
        this.#settled = settled;
        if (memory !== null) this.#memory = memory;
      },
      onFailed: ({ memory }) => {
        if (memory !== null) this.#memory = { ...memory, history: [...memory.history, ...historyOfRing(ring.found)] };
        this.#publish();
      },
    });
    this.#outbox = new Lane({
      ...shared,
      file: "outbox",
      lossRow: (dropped) => this.#tellLoss("outbox", dropped),
      probeRow: () => null,
    });
    this.#history = new Lane({
      ...shared,
      file: "history",
      lossRow: (dropped) => this.#tellLoss("history", dropped),
      probeRow: () => null,
    });
  }

  /** Trials of earlier runs, oldest first, at most 64 of a site. Complete once the journal could be read. */
  get history(): readonly PastTrial[] {
    return this.#memory.history;
  }
  /** Records of experience by name, as they were at open. */
  get learned(): ReadonlyMap<string, unknown> {
    return this.#memory.learned;
  }
  /** Restore windows that were open when the last supervisor ended. */
  get windows(): ReadonlyMap<string, unknown> {
    return this.#memory.windows;
  }
  /** Trials of earlier runs that were still open and are now *failed, interrupted*. */
  get settled(): readonly TrialId[] {
    return this.#settled;
  }
  /** Number of the newest durable row of the journal. Only rows up to it may be published or shown as durable. */
  get durableCursor(): number {
    return this.#journal.cursor;
  }

  /** Keeps upkeep from beginning while a thread is stopped, until what this gives is disposed. */
  holdUpkeep(): Disposable {
    return this.#idle.hold();
  }

  /** Notes what is about to be done. But for `holdUpkeep` the only call made while a thread is stopped: 64 stores into memory. */
  intent(report: FaultReport, decision: Decision): void {
    this.#ring.putIntent(report, decision, this.#clock.wallMs());
  }

  /** Goes the way of `intent` again and again and leaves nothing behind, so that the first real one runs compiled code. */
  rehearse(report: FaultReport, decision: Decision): void {
    this.#ring.practise(() => this.intent(report, decision), decision.trial, rehearsalRounds);
    const { pid, tid, signal, site, workload } = report;
    this.#practised = { facts: { pid, tid, signal, site, workload }, decision };
  }

  /**
   * Once more what was rehearsed last, for while something else is waited for: where nothing has faulted for long, the
   * processor's caches know nothing of an intent, and one takes 18 µs in place of 3.
   */
  warm(): void {
    const last = this.#practised;
    if (last === null) return;
    const put = (): void => this.#ring.putIntent(last.facts, last.decision, this.#clock.wallMs());
    this.#ring.practise(put, last.decision.trial, 1);
  }

  /** Writes down the whole report and what was decided; after the thread is resumed. */
  report(report: FaultReport, plan: Plan, decision: Decision): void {
    this.#keep("report", () => {
      if (report.id !== this.#lastReported) this.#journal.push(faultRow(report, plan));
      this.#lastReported = report.id;
      this.#journal.push(intentRow(report, decision, this.#clock.wallMs()), this.#ring.takeIntent(decision.trial));
    });
  }

  /** Writes down a verdict. */
  outcome(outcome: Outcome): void {
    this.#keep("outcome", () => {
      const atMs = this.#clock.wallMs();
      this.#journal.push(outcomeRow(outcome, atMs), this.#ring.putOutcome(outcome, atMs));
    });
  }

  /** Writes down something that happened and is no fault. `facts` is plain data. */
  event(event: string, workload: string, facts: unknown = {}): void {
    this.#keep("event", () => this.#journal.push(this.#eventRow(event, workload, facts)));
  }

  /** Keeps a record of experience under a name; null removes it. */
  learn(name: string, record: unknown): void {
    this.#keep("learned", () => this.#journal.push(namedRow("learned", name, record, this.#clock.wallMs())));
  }

  /** Keeps an open restore window under a name until it is closed with null. */
  window(name: string, facts: unknown): void {
    this.#idle.window(name, facts !== null);
    this.#keep("window", () => this.#journal.push(namedRow("window", name, facts, this.#clock.wallMs())));
  }

  /** Keeps one sample of a series. */
  sample(name: string, workload: string, value: number, unit = ""): void {
    this.#keep("sample", () =>
      this.#history.push({ kind: "sample", name, workload, unit, atMs: this.#clock.wallMs(), value }),
    );
  }

  /** Keeps a message to publish, an acknowledgement, a job, a command id, a key or a cursor. */
  outbox(row: OutboxRow): void {
    this.#keep("outbox", () => this.#outbox.push(row));
  }

  /** Resolves once everything written to `file` so far is durable. While that file is ill that may be long. */
  flush(signal?: AbortSignal, file: LaneName = "journal"): Promise<void> {
    return this.#lane(file).flush(signal);
  }

  /** The durable cursor of `file`, each time it moved; readers pull the rows themselves. */
  commits(signal: AbortSignal, file: LaneName = "journal"): AsyncIterable<number> {
    return this.#lane(file).commits(signal);
  }

  state(): StorageState {
    const { illness } = this.#journal;
    const others = [this.#outbox, this.#history].flatMap((lane) => lane.illness?.why ?? []);
    const fullness = this.#condition?.fullness ?? "normal";
    const room =
      fullness === "normal" ? "" : `the disk is nearly full: ${this.#condition?.space?.freeBytes} bytes left`;
    const whys = [illness?.why ?? "", room, this.#ring.trouble, ...others];
    return {
      kind: illness === null ? fullness : "blind",
      why: [...new Set(whys.filter((why) => why !== ""))].join("; "),
      dropped: { ...this.#journal.dropped, ...this.#outbox.dropped, ...this.#history.dropped },
      queuedRows: this.#journal.queuedRows + this.#outbox.queuedRows + this.#history.queuedRows,
      ringSlots: this.#ring.usedSlots,
      freeBytes: this.#condition?.space?.freeBytes ?? null,
      bytesToday: this.#condition?.bytesToday ?? 0,
      overBudget: this.#condition?.overBudget ?? false,
    };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#tasks[Symbol.asyncDispose]();
    const lanes = [this.#journal, this.#outbox, this.#history];
    const late = (): Error => new StorageError("storage.io", `rows were not durable within ${closePatienceMs} ms`);
    using patience = deadline(closePatienceMs, late);
    try {
      for (const lane of lanes) await lane.finish(patience.signal);
      await this.#ask({ kind: "close" }, patience.signal);
    } catch (error) {
      // What is not durable is in the ring; the next start finds it there.
      this.#log("warn", "storage.closedEarly", { rows: this.state().queuedRows, why: explain(error) });
    }
    for (const lane of lanes) await lane[Symbol.asyncDispose]();
    this.#port[Symbol.dispose]();
    if (this.#ring.path !== null) withdrawState(this.#ring.path);
    this.#ring[Symbol.dispose]();
  }

  /** The Worker's answer; rejects with the signal's reason, since a disk may take any time. */
  #ask(message: ToWriter, signal: AbortSignal): Promise<FromWriter> {
    return new Promise((resolve, reject) => {
      if (signal.aborted) return reject(signal.reason);
      const giveUp = (): void => reject(signal.reason);
      signal.addEventListener("abort", giveUp, { once: true });
      this.#port.send(message, (answer) => {
        signal.removeEventListener("abort", giveUp);
        resolve(answer);
      });
    });
  }

  #lane(file: LaneName): Lane<LaneName> {
    const lane = file === "journal" ? this.#journal : file === "outbox" ? this.#outbox : this.#history;
    return lane as unknown as Lane<LaneName>;
  }

  #eventRow(event: string, workload: string, facts: unknown): ReturnType<typeof eventRow> {
    return eventRow(`e-${this.nextFaultId()}`, { event, workload, facts }, this.#clock.wallMs());
  }

  #tellLoss(file: LaneName, dropped: Dropped): null {
    this.event("rowsLost", "", { file, ...dropped });
    return null;
  }

  #committed(slots: readonly SlotIndex[]): void {
    this.#idle.committed();
    this.#ring.free(slots);
  }

  #learnCondition(condition: Condition): void {
    this.#condition = condition;
    for (const { event, facts } of condition.findings) {
      this.#log("warn", `storage.${event}`, facts);
      this.event(event, "", facts);
    }
    this.#publish();
  }

  /** Tells other processes, if anything but counters changed. */
  #publish(): void {
    const state = this.state();
    const gist = `${state.kind} ${state.why} ${state.overBudget}`;
    if (this.#ring.path === null || gist === this.#published) return;
    this.#published = gist;
    publishState(this.#ring.path, {
      ...state,
      pid: process.pid,
      atMs: this.#clock.wallMs(),
      directory: this.#directory,
    });
  }

  async #upkeepSlice(signal: AbortSignal): Promise<boolean> {
    const answer = await this.#ask({ kind: "upkeep" }, signal);
    if (answer.kind === "kept") this.#learnCondition(answer.condition);
    return answer.kind === "kept" && answer.more;
  }

  #keep(what: string, write: () => void): void {
    try {
      write();
    } catch (error) {
      // Bookkeeping must never end the supervisor: the loss is told on the log, and the ring still has the short form.
      this.#log("error", "storage.rowLost", { what, why: explain(error) });
    }
  }
}

/** What the ring alone knows, for the time until the journal can be read. */
function historyOfRing(slots: readonly Slot[]): PastTrial[] {
  return slots.flatMap((slot) => {
    if (slot.kind !== "intent" || slot.edit.kind === "deliver") return [];
    const { trial, site, tid, key, edit, atMs } = slot;
    const outcome = slots.find((other) => other.kind === "outcome" && other.trial === trial);
    const verdict = outcome?.kind === "outcome" ? outcome.verdict : "failed";
    const interrupted = outcome === undefined ? { interrupted: true } : {};
    return [
      { trial, site, tid, key, rung: rungOf(edit), atMs, verdict, session: null, veteran: false, ...interrupted },
    ];
  });
}
