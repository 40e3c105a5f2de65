// SPDX-License-Identifier: Apache-2.0
/**
 * The ring with its lock and its bookkeeping: which slot belongs to which trial. Gets records; never throws after `open`,
 * because acting on a fault comes first: trouble is told in `trouble` and the rows still go through the queue.
 */
import { rmSync } from "node:fs";
import { dirname } from "node:path";
import { explain, StorageError } from "#errors.ts";
import type { TrialId } from "#fault.ts";
import type { Log } from "#log.ts";
import { type FoundSlot, IntentRing, type SlotIndex, slotCount } from "./intentRing.ts";
import { claimRingDirectory, lockFile, ringPath } from "./ownership.ts";
import { sweepRings } from "./ringSweep.ts";
import { type JournalRow, rowsOfSlot } from "./rows.ts";
import type { IntentChoice, IntentFacts, OutcomeFacts, Slot } from "./slot.ts";

export class RingBooks implements Disposable {
  /** The trial whose intent is in each slot and was not taken yet. An array, as a map that grows takes 15 µs to do it. */
  readonly #intents: (TrialId | null)[] = new Array(slotCount).fill(null);
  #found: readonly FoundSlot[];
  #ring: IntentRing | null;
  #trouble: string;

  /** @throws StorageError storage.locked where another supervisor holds the ring of `directory` */
  static open(runDirectory: string, directory: string, nowMs: number, log: Log): RingBooks {
    const path = ringPath(runDirectory, directory);
    let lock: Disposable | null = null;
    try {
      claimRingDirectory(path);
      lock = lockFile(`${path}.lock`);
      sweepRings(dirname(path), nowMs);
      return new RingBooks(IntentRing.open(path, directory), lock, path, "");
    } catch (error) {
      if (error instanceof StorageError && error.code === "storage.locked") throw error;
      log("error", "storage.noRing", { why: explain(error) });
      return new RingBooks(null, lock, null, explain(error));
    }
  }

  private constructor(
    ring: IntentRing | null,
    private readonly lock: Disposable | null,
    /** Where the ring is; null where there is none. */
    readonly path: string | null,
    trouble: string,
  ) {
    this.#ring = ring;
    this.#found = ring?.found ?? [];
    this.#trouble = trouble;
  }

  /** Records of earlier runs that may not be in the journal, oldest first. */
  get found(): readonly Slot[] {
    return this.#found.map(({ slot }) => slot);
  }
  /** The rows that they stand for. */
  get recovered(): readonly JournalRow[] {
    return this.#found.flatMap(({ slot }) => rowsOfSlot(slot));
  }
  get trouble(): string {
    return this.#trouble;
  }
  get usedSlots(): number | null {
    return this.#ring?.usedCount ?? null;
  }

  /** Frees the slots of earlier runs: their rows are in the journal. */
  forgetFound(): void {
    this.free(this.#found.map(({ index }) => index));
    this.#found = [];
  }

  putIntent(facts: IntentFacts, choice: IntentChoice, atMs: number): void {
    try {
      const index = this.#ring?.putIntent(facts, choice, atMs) ?? null;
      if (index !== null) this.#intents[index] = choice.trial;
    } catch (error) {
      this.#trouble = explain(error);
    }
  }

  /** Puts and takes back the intent of `trial` as often; nothing is left of it. */
  practise(put: () => void, trial: TrialId, rounds: number): void {
    this.#ring?.practise(() => {
      for (let round = 0; round < rounds; round += 1) {
        put();
        const slot = this.takeIntent(trial);
        if (slot !== null) this.#ring?.free(slot);
      }
    });
  }

  /** The slot of a trial's intent, once: it goes with the row from now on. */
  takeIntent(trial: TrialId): SlotIndex | null {
    const index = this.#intents.indexOf(trial);
    if (index < 0) return null;
    this.#intents[index] = null;
    return index as SlotIndex;
  }

  putOutcome(outcome: OutcomeFacts, atMs: number): SlotIndex | null {
    try {
      return this.#ring?.putOutcome(outcome, atMs) ?? null;
    } catch (error) {
      this.#trouble = explain(error);
      return null;
    }
  }

  free(slots: readonly SlotIndex[]): void {
    try {
      for (const slot of slots) this.#ring?.free(slot);
    } catch (error) {
      // A slot left over is replayed at the next start, where its rows are found to be there already.
      this.#trouble = explain(error);
    }
  }

  /** A ring in which nothing waits is removed, so that memory is not held for directories that nobody uses any more. */
  [Symbol.dispose](): void {
    const empty = this.#ring?.usedCount === 0;
    this.#ring?.[Symbol.dispose]();
    this.#ring = null;
    if (empty && this.path !== null) rmSync(this.path, { force: true });
    this.lock?.[Symbol.dispose]();
  }
}
