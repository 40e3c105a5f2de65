// SPDX-License-Identifier: Apache-2.0
/**
 * Rows that are not durable yet, oldest first. Gets rows; gives batches, and takes them off only when they are committed.
 *
 * Bounded by rows and by bytes. When it is full the least valuable go first: events, then whole reports (the fault and
 * its intent stay), then outcomes; an intent never goes. What went is counted by kind.
 */

import type { SlotIndex } from "./intentRing.ts";
import type { JournalRow, RowKind } from "./rows.ts";

export const queueRowsMax = 4096;
export const queueBytesMax = 4 * 1024 * 1024;
export const batchRowsMax = 256;

export type QueuedRow = {
  row: JournalRow;
  /** Its slot in the ring, to be freed when the row is durable. */
  readonly slot: SlotIndex | null;
  /** Counts pushes: who waits for a row waits for its order. */
  readonly order: number;
};
export type Dropped = Readonly<Record<RowKind | "report", number>>;

/** Bytes that a row is counted as beyond its texts. */
const rowOverheadBytes = 100;

export class RowQueue {
  #rows: QueuedRow[] = [];
  #bytes = 0;
  #order = 0;
  #dropped = { event: 0, report: 0, outcome: 0, fault: 0, intent: 0 };

  constructor(
    private readonly rowsMax = queueRowsMax,
    private readonly bytesMax = queueBytesMax,
  ) {}

  get length(): number {
    return this.#rows.length;
  }
  get bytes(): number {
    return this.#bytes;
  }
  /** Rows lost since the last `takeDropped`. */
  get dropped(): Dropped {
    return { ...this.#dropped };
  }

  /** The order of the last row pushed, 0 before the first. */
  get lastOrder(): number {
    return this.#order;
  }
  /** The order of the oldest row in the queue; null where it is empty. */
  get firstOrder(): number | null {
    return this.#rows[0]?.order ?? null;
  }

  push(row: JournalRow, slot: SlotIndex | null): void {
    this.#order += 1;
    this.#rows.push({ row, slot, order: this.#order });
    this.#bytes += sizeOf(row);
    if (this.#rows.length > this.rowsMax || this.#bytes > this.bytesMax) this.#shed();
  }

  /** Takes the oldest rows, at most `rowsMax`. Give them back with `putBack` if they were not committed. */
  take(rowsMax = batchRowsMax): readonly QueuedRow[] {
    const taken = this.#rows.splice(0, rowsMax);
    for (const { row } of taken) this.#bytes -= sizeOf(row);
    return taken;
  }

  /** Puts rows that were taken back in front. */
  putBack(taken: readonly QueuedRow[]): void {
    this.#rows.unshift(...taken);
    for (const { row } of taken) this.#bytes += sizeOf(row);
    if (this.#rows.length > this.rowsMax || this.#bytes > this.bytesMax) this.#shed();
  }

  /** What was lost, for the row that says so; counting starts again. Null where nothing was. */
  takeDropped(): Dropped | null {
    const dropped = this.dropped;
    if (Object.values(dropped).every((count) => count === 0)) return null;
    this.#dropped = { event: 0, report: 0, outcome: 0, fault: 0, intent: 0 };
    return dropped;
  }

  /** Makes room, an eighth at once, so that a full queue is not searched for each new row. */
  #shed(): void {
    const rowsWanted = Math.floor((this.rowsMax * 7) / 8);
    const bytesWanted = Math.floor((this.bytesMax * 7) / 8);
    this.#dropRows("event", rowsWanted, bytesWanted);
    this.#dropReports(bytesWanted);
    this.#dropRows("outcome", rowsWanted, bytesWanted);
    this.#dropRows("fault", rowsWanted, bytesWanted);
  }

  #dropRows(kind: RowKind, rowsWanted: number, bytesWanted: number): void {
    let rows = this.#rows.length;
    this.#rows = this.#rows.filter((queued) => {
      if (queued.row.kind !== kind || (rows <= rowsWanted && this.#bytes <= bytesWanted)) return true;
      rows -= 1;
      this.#bytes -= sizeOf(queued.row);
      this.#dropped[kind] += 1;
      return false;
    });
  }

  #dropReports(bytesWanted: number): void {
    for (const queued of this.#rows) {
      if (this.#bytes <= bytesWanted) return;
      if (queued.row.body === null) continue;
      this.#bytes -= queued.row.body.length;
      this.#dropped.report += 1;
      queued.row = { ...queued.row, body: null };
    }
  }
}

const sizeOf = (row: JournalRow): number =>
  row.head.length + (row.body?.length ?? 0) + row.id.length + rowOverheadBytes;
