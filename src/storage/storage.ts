// SPDX-License-Identifier: Apache-2.0
/**
 * Storage as the rest of the supervisor sees it, on the main thread. Gets intents, reports, outcomes and events; gives the
 * history and the cursor of what is durable. Three laws: a stopped thread never waits for a disk; what was acknowledged
 * (the cursor) is never lost; a damaged file costs its own content and nothing else.
 *
 *     intent ──▶ ring slot (one pwrite on tmpfs)      report, outcome, event ──▶ queue ──▶ Worker ──▶ commit
 *                  └─────────────── freed when its rows are committed ◀──────────────────────┘
 *
 * Nothing here throws after `open`, and no statement that can write runs on this thread. While commits fail it is *blind*:
 * rows wait in the ring and in the queue, and a probe is made every ten seconds.
 */
import { type Clock, deadline, type Random, systemRandom } from "#clock.ts";
import { explain, StorageError } from "#errors.ts";
import type { Decision, FaultId, FaultReport, Outcome, PastTrial, Plan, TrialId } from "#fault.ts";
import type { Log } from "#log.ts";
import { CommitLoop, type Opened } from "./commitLoop.ts";
import { faultIds, splitTrial, trialId } from "./faultId.ts";
import { IntentRing, type SlotIndex } from "./intentRing.ts";
import { claimDirectory, lockFile, ringPath } from "./ownership.ts";
import type { Dropped } from "./rowQueue.ts";
import { eventRow, faultRow, intentRow, outcomeRow, rowsOfSlot, rungOf } from "./rows.ts";
import type { Slot } from "./slot.ts";

/** A disk that has not answered by then is left to answer later; guarding comes before remembering. */
const openPatienceMs = 2_000;

export type StorageOptions = {
  /** The state directory of this guard, such as STATE/guards/NAME. */
  readonly directory: string;
  readonly runDirectory: string;
  readonly clock: Clock;
  readonly log: Log;
  readonly random?: Random;
  readonly signal?: AbortSignal;
};

export type StorageState = {
  readonly kind: "normal" | "tight" | "critical" | "blind";
  /** Why it is not normal; "" where it is. */
  readonly why: string;
  readonly dropped: Dropped;
  readonly queuedRows: number;
  /** Slots of the ring whose rows are not durable yet; null where there is no ring. */
  readonly ringSlots: number | null;
};

export class Storage implements AsyncDisposable {
  readonly #clock: Clock;
  readonly #log: Log;
  readonly #loop: CommitLoop;
  readonly #ringLock: Disposable | null;
  readonly #intentSlots = new Map<TrialId, SlotIndex>();
  readonly #history: PastTrial[];
  /** Makes the ids of this supervisor's faults. */
  readonly nextFaultId: () => FaultId;
  #ring: IntentRing | null;
  #ringTrouble = "";
  #settled: readonly TrialId[] = [];
  #lastReported = "";

  /**
   * Replays the ring and settles the journal before it resolves, unless the disk takes longer than two seconds: then it
   * resolves blind and goes on behind. @throws StorageError storage.locked where another supervisor holds the directory;
   * everything else is a state, not an error
   */
  static async open(options: StorageOptions): Promise<Storage> {
    const path = ringPath(options.runDirectory, options.directory);
    const { ring, lock, trouble } = openRing(path, options.log);
    const storage = new Storage(options, ring, lock, trouble);
    const slow = (): Error => new StorageError("storage.io", `no answer from the disk within ${openPatienceMs} ms`);
    using patience = deadline(openPatienceMs, slow, options.signal);
    const answered = new AbortController();
    try {
      await Promise.race([
        storage.#loop.opened,
        storage.#loop.ill(AbortSignal.any([patience.signal, answered.signal])),
      ]);
    } catch (error) {
      if (error instanceof StorageError && error.code !== "storage.locked") {
        options.log("warn", "storage.openedBlind", { why: explain(error) });
        return storage;
      }
      await storage[Symbol.asyncDispose]();
      throw error;
    } finally {
      answered.abort();
    }
    return storage;
  }

  private constructor(options: StorageOptions, ring: IntentRing | null, lock: Disposable | null, trouble: string) {
    const { clock, log, directory } = options;
    this.#clock = clock;
    this.#log = log;
    this.#ring = ring;
    this.#ringLock = lock;
    this.#ringTrouble = trouble;
    this.nextFaultId = faultIds(clock, options.random ?? systemRandom);
    const found = ring?.found ?? [];
    this.#history = historyOfRing(found.map(({ slot }) => slot));
    this.#loop = new CommitLoop({
      directory,
      recovered: found.flatMap(({ slot }) => rowsOfSlot(slot)),
      clock,
      log,
      nextId: this.nextFaultId,
      onCommitted: (slots) => this.#free(slots),
      onOpened: (opened) => {
        this.#free(found.map(({ index }) => index));
        this.#takeHistory(opened);
      },
    });
  }

  /** Trials of earlier runs, oldest first, at most 64 of a site. Complete once the journal could be read. */
  get history(): readonly PastTrial[] {
    return this.#history;
  }
  /** Trials of earlier runs that were still open and are now *failed, interrupted*. */
  get settled(): readonly TrialId[] {
    return this.#settled;
  }
  /** Number of the newest durable row of the journal. Only rows up to it may be published or shown as durable. */
  get durableCursor(): number {
    return this.#loop.cursor;
  }

  /** Notes what is about to be done. The only call made while a thread is stopped: one pwrite on tmpfs. */
  intent(report: FaultReport, decision: Decision): void {
    const { id, pid, tid, signal, site, workload } = report;
    const number = splitTrial(decision.trial)?.number ?? 0;
    const { edit, key } = decision;
    const atMs = this.#clock.wallMs();
    const slot = this.#put({ kind: "intent", fault: id, number, atMs, pid, tid, signal, edit, key, site, workload });
    if (slot !== null) this.#intentSlots.set(decision.trial, slot);
  }

  /** Writes down the whole report and what was decided; after the thread is resumed. */
  report(report: FaultReport, plan: Plan, decision: Decision): void {
    this.#keep("report", () => {
      const slot = this.#intentSlots.get(decision.trial) ?? null;
      this.#intentSlots.delete(decision.trial);
      if (report.id !== this.#lastReported) this.#loop.push(faultRow(report, plan), null);
      this.#lastReported = report.id;
      this.#loop.push(intentRow(report, decision, this.#clock.wallMs()), slot);
    });
  }

  /** Writes down a verdict. */
  outcome(outcome: Outcome): void {
    this.#keep("outcome", () => {
      const { fault, rung, verdict, stopUs, probationMs } = outcome;
      const number = splitTrial(outcome.trial)?.number ?? 0;
      const atMs = this.#clock.wallMs();
      const evidence = outcome.evidence[0] ?? "";
      const slot = this.#put({ kind: "outcome", fault, number, atMs, rung, verdict, stopUs, probationMs, evidence });
      this.#loop.push(outcomeRow(outcome, atMs), slot);
    });
  }

  /** Writes down something that happened and is no fault. `facts` is plain data. */
  event(event: string, workload: string, facts: unknown = {}): void {
    this.#keep("event", () => {
      this.#loop.push(eventRow(`e-${this.nextFaultId()}`, { event, workload, facts }, this.#clock.wallMs()), null);
    });
  }

  /** Resolves once everything written so far is durable. While blind that may be long. */
  flush(signal?: AbortSignal): Promise<void> {
    return this.#loop.flush(signal);
  }

  /** The durable cursor, each time it moved; readers pull the rows themselves. */
  commits(signal: AbortSignal): AsyncIterable<number> {
    return this.#loop.commits(signal);
  }

  state(): StorageState {
    const illness = this.#loop.illness;
    return {
      kind: illness === null ? "normal" : "blind",
      why: [illness?.why ?? "", this.#ringTrouble].filter((why) => why !== "").join("; "),
      dropped: this.#loop.dropped,
      queuedRows: this.#loop.queuedRows,
      ringSlots: this.#ring?.usedCount ?? null,
    };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#loop[Symbol.asyncDispose]();
    this.#ring?.[Symbol.dispose]();
    this.#ring = null;
    this.#ringLock?.[Symbol.dispose]();
  }

  #put(slot: Slot): SlotIndex | null {
    try {
      return this.#ring?.put(slot) ?? null;
    } catch (error) {
      // Acting on the fault comes first; the row still goes through the queue, and the state says what is missing.
      this.#ringTrouble = explain(error);
      return null;
    }
  }

  #free(slots: readonly SlotIndex[]): void {
    try {
      for (const slot of slots) this.#ring?.free(slot);
    } catch (error) {
      // A slot left over is replayed at the next start, where its rows are found to be there already.
      this.#ringTrouble = explain(error);
    }
  }

  #keep(what: string, write: () => void): void {
    try {
      write();
    } catch (error) {
      // Bookkeeping must never end the supervisor: the loss is told on the log, and the ring still has the short form.
      this.#log("error", "storage.rowLost", { what, why: explain(error) });
    }
  }

  #takeHistory(opened: Opened): void {
    this.#settled = opened.settled;
    this.#history.splice(0, this.#history.length, ...opened.history);
  }
}

type OpenedRing = { ring: IntentRing | null; lock: Disposable | null; trouble: string };

/** @throws StorageError storage.locked */
function openRing(path: string, log: Log): OpenedRing {
  let lock: Disposable | null = null;
  try {
    claimDirectory(path.slice(0, path.lastIndexOf("/")));
    lock = lockFile(`${path}.lock`);
    return { ring: IntentRing.open(path), lock, trouble: "" };
  } catch (error) {
    if (error instanceof StorageError && error.code === "storage.locked") throw error;
    log("error", "storage.noRing", { why: explain(error) });
    return { ring: null, lock, trouble: explain(error) };
  }
}

/** What the ring alone knows, for the time until the journal can be read. */
function historyOfRing(slots: readonly Slot[]): PastTrial[] {
  return slots.flatMap((slot) => {
    if (slot.kind !== "intent" || slot.edit.kind === "deliver") return [];
    const { fault, number, site, tid, key, edit, atMs } = slot;
    const isOutcome = (other: Slot): boolean =>
      other.kind === "outcome" && other.fault === fault && other.number === number;
    const outcome = slots.find(isOutcome);
    const verdict = outcome?.kind === "outcome" ? outcome.verdict : "failed";
    const trial = trialId(fault, number);
    return [{ trial, site, tid, key, rung: rungOf(edit), atMs, verdict, session: null }];
  });
}
