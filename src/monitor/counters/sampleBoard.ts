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
const rowsOfSlot = rawRows + fineRows;
/** Of rows, within 32 bits with their sign: at 1 kHz it is reached in twelve days. */
const writtenMax = 2 ** 30;
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
  /** The slots that are written, and where the row of each lies. */
  #used = new Int32Array(0);
  #rowBytes = new Int32Array(0);

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
    const words = rowsOfSlot * this.width;
    this.#times.fill(0, slot * words, (slot + 1) * words);
  }

  timeNs(row: number): number {
    return this.#times[row]!;
  }
  /** A word that the kernel wrote. Exact to 2^53. */
  word(at: number): number {
    return this.#halves[2 * at]! + this.#halves[2 * at + 1]! * 4294967296;
  }

  /** Rows are written for these slots from now on. */
  use(slots: readonly number[]): void {
    this.#used = Int32Array.from(slots);
    this.#rowBytes = new Int32Array(slots.length);
  }
  /** Begins a row for each slot in use, with its time; gives where each lies, in bytes (the same array each time). */
  begin(nowNs: number): Int32Array {
    const used = this.#used;
    const rowBytes = this.#rowBytes;
    const { width } = this;
    for (let at = 0; at < used.length; at += 1) {
      const slot = used[at]!;
      const row = (slot * rowsOfSlot + (this.#words[slot * slotWords + rawWord]! % rawRows)) * width;
      this.#times[row] = nowNs;
      rowBytes[at] = headBytes + row * 8;
    }
    return rowBytes;
  }
  /** The rows are complete. */
  end(): void {
    const used = this.#used;
    for (let at = 0; at < used.length; at += 1) this.#advance(used[at]! * slotWords + rawWord, rawRows);
  }
  /** Takes the newest row of each slot in use into its fine ring. */
  keepFine(): void {
    for (const slot of this.#used) {
      const [from, at] = [this.newestRow(slot)!, slot * slotWords + fineWord];
      this.#times.copyWithin(this.#rowAt(slot, "fine", this.#words[at]!), from, from + this.width);
      this.#advance(at, fineRows);
    }
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

  /** Counts a row; far up, the count falls back by a whole ring. */
  #advance(at: number, ringRows: number): void {
    const written = this.#words[at]!;
    Atomics.store(this.#words, at, written < writtenMax ? written + 1 : written + 1 - ringRows);
  }

  #rowAt(slot: number, ring: Ring, written: number): number {
    const first = slot * rowsOfSlot;
    const row = ring === "raw" ? first + (written % rawRows) : first + rawRows + (written % fineRows);
    return row * this.width;
  }
}

const headBytes = slotsMax * slotWords * 4;
const bytesOf = (plan: EventPlan): number => headBytes + slotsMax * rowsOfSlot * columnsOf(plan).at(-1)! * 8;
