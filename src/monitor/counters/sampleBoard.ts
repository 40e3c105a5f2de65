// SPDX-License-Identifier: Apache-2.0
/**
 * The memory that the sampler writes and everybody reads: for each thread a ring of all samples and a ring of one sample
 * every 100 ms that reaches back over a minute. Gets a plan; gives rows of numbers. No locks, no messages.
 *
 *     slot: Int32  tid, workload, rows written (all), rows written (fine)
 *           rows of 64-bit words: monotonic ns as a float, then for each group what the kernel writes: how many events it
 *           has (0 where it was never read), enabled ns, running ns, and its events in order
 *
 * One writer. A row that is being overwritten while it is read is left out: the reader keeps clear of the oldest ones.
 * Limits: `slotsMax` threads; `rawRows` and `fineRows` a thread. Untouched memory costs nothing.
 */
import { groupHeadWords } from "#board/native/perfEvents.ts";
import type { EventPlan } from "./eventPlan.ts";

export const slotsMax = 64;
/** The newest ones, for whoever reads while they are written: 1 s at 100 Hz. */
export const rawRows = 128;
export const fineRows = 640;
export const finePeriodNs = 100e6;
/** Rows next to the writer that a reader does not touch. */
const clearRows = 2;

const slotWords = 4;
const [tidWord, workloadWord, rawWord, fineWord] = [0, 1, 2, 3];

/** Where the words of each group begin within a row; at its end the width of a row. */
export const columnsOf = (plan: EventPlan): readonly number[] => {
  const columns: number[] = [];
  let at = 1;
  for (const { events } of plan.groups) {
    columns.push(at);
    at += groupHeadWords + events.length;
  }
  return [...columns, at];
};

export type Ring = "raw" | "fine";

export class SampleBoard {
  /** Words of a row. */
  readonly width: number;
  readonly #times: Float64Array;
  readonly #halves: Uint32Array;
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
    this.#times = new Float64Array(buffer, headBytes);
    this.#halves = new Uint32Array(buffer, headBytes);
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

  /** Nothing of the slot is known. */
  clear(slot: number): void {
    const words = (rawRows + fineRows) * this.width;
    this.#times.fill(0, slot * words, (slot + 1) * words);
  }

  setTime(row: number, nowNs: number): void {
    this.#times[row] = nowNs;
  }
  timeNs(row: number): number {
    return this.#times[row]!;
  }
  /** Where a word lies within the memory, in bytes. */
  byteOf(word: number): number {
    return headBytes + word * 8;
  }
  /** A word that the kernel wrote. Exact to 2^53. */
  word(at: number): number {
    return this.#halves[2 * at]! + this.#halves[2 * at + 1]! * 4294967296;
  }
  copyRow(from: number, to: number): void {
    this.#times.copyWithin(to, from, from + this.width);
  }

  /** First word of the row of the raw ring that is written next, with its time set. All that a tick needs, in one call. */
  begin(slot: number, nowNs: number): number {
    const written = this.#words[slot * slotWords + rawWord]!;
    const row = (slot * (rawRows + fineRows) + (written % rawRows)) * this.width;
    this.#times[row] = nowNs;
    return row;
  }
  /** First word of the row that is written next in this ring. */
  nextRow(slot: number, ring: Ring): number {
    const written = this.#words[slot * slotWords + (ring === "raw" ? rawWord : fineWord)]!;
    return this.#rowAt(slot, ring, written);
  }
  /** The row at `nextRow` is complete. */
  advance(slot: number, ring: Ring): void {
    Atomics.add(this.#words, slot * slotWords + (ring === "raw" ? rawWord : fineWord), 1);
  }
  /** First word of the newest row; null where there is none. */
  newestRow(slot: number): number | null {
    const written = Atomics.load(this.#words, slot * slotWords + rawWord);
    return written === 0 ? null : this.#rowAt(slot, "raw", written - 1);
  }
  /** First words of all rows of a ring, oldest first. */
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

const headBytes = slotsMax * slotWords * 4;
const bytesOf = (plan: EventPlan): number => headBytes + slotsMax * (rawRows + fineRows) * columnsOf(plan).at(-1)! * 8;
