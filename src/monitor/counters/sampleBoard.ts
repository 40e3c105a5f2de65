// SPDX-License-Identifier: Apache-2.0
/**
 * The memory that the sampler writes and everybody reads: for each thread a ring of all samples and a ring of one sample
 * every 100 ms that reaches back over a minute. Gets a plan; gives rows of numbers. No locks, no messages.
 *
 *     slot: Int32  tid, workload, rows written (all), rows written (fine)
 *           Float64 rows: monotonic ns, then for each group enabled ns, running ns, and its events in order
 *
 * One writer. A row that is being overwritten while it is read is left out: the reader keeps clear of the oldest ones.
 * Limits: `slotsMax` threads; `rawRows` and `fineRows` a thread. Untouched memory costs nothing.
 */
import { groupHeadNumbers } from "#board/native/perfEvents.ts";
import type { EventPlan } from "./eventPlan.ts";

export const slotsMax = 64;
/** 10 s at 100 Hz, 1 s at 1 kHz. */
export const rawRows = 1_024;
export const fineRows = 640;
export const finePeriodNs = 100e6;
/** Rows next to the writer that a reader does not touch. */
const clearRows = 2;

const slotWords = 4;
const [tidWord, workloadWord, rawWord, fineWord] = [0, 1, 2, 3];

/** A value of an event that could not be opened, and of a slot that was never read. */
export const notCounted = -1;

/** Where the numbers of each group begin within a row. */
export const columnsOf = (plan: EventPlan): readonly number[] => {
  const columns: number[] = [];
  let at = 1;
  for (const { events } of plan.groups) {
    columns.push(at);
    at += groupHeadNumbers + events.length;
  }
  return [...columns, at];
};

export type Ring = "raw" | "fine";

export class SampleBoard {
  /** Numbers of a row. */
  readonly width: number;
  readonly rows: Float64Array;
  readonly #words: Int32Array;

  static create(plan: EventPlan): SampleBoard {
    return new SampleBoard(plan, new SharedArrayBuffer(bytesOf(plan)));
  }

  constructor(
    plan: EventPlan,
    readonly buffer: SharedArrayBuffer,
  ) {
    this.width = columnsOf(plan).at(-1)!;
    this.#words = new Int32Array(buffer, 0, slotsMax * slotWords);
    this.rows = new Float64Array(buffer, slotsMax * slotWords * 4);
  }

  tid(slot: number): number {
    return Atomics.load(this.#words, slot * slotWords + tidWord);
  }
  workload(slot: number): number {
    return Atomics.load(this.#words, slot * slotWords + workloadWord);
  }

  /** The slot is this thread's from now on; 0 frees it. */
  assign(slot: number, tid: number, workload: number): void {
    const at = slot * slotWords;
    this.#words[at + rawWord] = 0;
    this.#words[at + fineWord] = 0;
    this.#words[at + workloadWord] = workload;
    Atomics.store(this.#words, at + tidWord, tid);
  }

  /** No number of the slot is known. */
  clear(slot: number): void {
    const numbers = (rawRows + fineRows) * this.width;
    this.rows.fill(notCounted, slot * numbers, (slot + 1) * numbers);
  }

  /** First number of the row that is written next in this ring. */
  nextRow(slot: number, ring: Ring): number {
    const written = this.#words[slot * slotWords + (ring === "raw" ? rawWord : fineWord)]!;
    return this.#rowAt(slot, ring, written);
  }
  /** The row at `nextRow` is complete. */
  advance(slot: number, ring: Ring): void {
    Atomics.add(this.#words, slot * slotWords + (ring === "raw" ? rawWord : fineWord), 1);
  }
  /** First number of the newest row; null where there is none. */
  newestRow(slot: number): number | null {
    const written = Atomics.load(this.#words, slot * slotWords + rawWord);
    return written === 0 ? null : this.#rowAt(slot, "raw", written - 1);
  }
  /** First numbers of all rows of a ring, oldest first. */
  rowsOf(slot: number, ring: Ring): number[] {
    const written = Atomics.load(this.#words, slot * slotWords + (ring === "raw" ? rawWord : fineWord));
    const rows = ring === "raw" ? rawRows : fineRows;
    const from = written < rows ? 0 : written - rows + clearRows;
    return Array.from({ length: written - from }, (_, index) => this.#rowAt(slot, ring, from + index));
  }

  #rowAt(slot: number, ring: Ring, written: number): number {
    const first = slot * (rawRows + fineRows);
    const row = ring === "raw" ? first + (written % rawRows) : first + rawRows + (written % fineRows);
    return row * this.width;
  }
}

const bytesOf = (plan: EventPlan): number =>
  slotsMax * slotWords * 4 + slotsMax * (rawRows + fineRows) * columnsOf(plan).at(-1)! * 8;
