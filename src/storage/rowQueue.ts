// SPDX-License-Identifier: Apache-2.0
/**
 * Rows that are not durable yet, oldest first. Gets rows and a policy that says what each is worth; gives batches.
 *
 * Bounded by rows and by bytes. When it is full the least valuable rows go first, oldest first among equals; a row that is
 * worth keeping for ever never goes. What went is counted by kind.
 */
import type { SlotIndex } from "./intentRing.ts";
import type { LaneName, RowOf } from "./messages.ts";
import { type MessageClass, messageClasses, type OutboxRow } from "./outbox.ts";
import type { JournalRow } from "./rows.ts";

export const queueRowsMax = 4096;
export const queueBytesMax = 4 * 1024 * 1024;
export const batchRowsMax = 256;
/** Bytes that a row is counted as beyond its texts. */
const rowOverheadBytes = 100;
/** Room is made for an eighth at once, so that a full queue is not searched for each new row. */
const keptRatio = 7 / 8;

export type QueuedRow<Row> = {
  row: Row;
  /** Its slot in the ring, to be freed when the row is durable. */
  readonly slot: SlotIndex | null;
  /** Counts pushes: who waits for a row waits for its order. */
  readonly order: number;
};
export type Dropped = Readonly<Record<string, number>>;

export type RowPolicy<Row> = {
  readonly bytes: (row: Row) => number;
  /** Rank in the order of going, 0 first; null for a row that never goes. Ranks are below `ranks`. */
  readonly rank: (row: Row) => number | null;
  readonly ranks: number;
  readonly kind: (row: Row) => string;
  /** The row without what can be spared of it, tried before rank `shrinkBefore` goes; null where nothing can. */
  readonly shrink?: { readonly before: number; readonly row: (row: Row) => Row | null; readonly kind: string };
};

export class RowQueue<Row> {
  #rows: QueuedRow<Row>[] = [];
  #bytes = 0;
  #order = 0;
  #dropped = new Map<string, number>();

  constructor(
    private readonly policy: RowPolicy<Row>,
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
    return Object.fromEntries(this.#dropped);
  }
  /** The order of the last row pushed, 0 before the first. */
  get lastOrder(): number {
    return this.#order;
  }
  /** The order of the oldest row in the queue; null where it is empty. */
  get firstOrder(): number | null {
    return this.#rows[0]?.order ?? null;
  }

  push(row: Row, slot: SlotIndex | null): void {
    this.#order += 1;
    this.#rows.push({ row, slot, order: this.#order });
    this.#bytes += this.policy.bytes(row);
    this.#bound();
  }

  /** Puts a row in front of all others. */
  pushFirst(row: Row): void {
    if (this.#rows.length === 0) this.#order += 1;
    this.#rows.unshift({ row, slot: null, order: this.#rows[0]?.order ?? this.#order });
    this.#bytes += this.policy.bytes(row);
  }

  /** Takes the oldest rows, at most `rowsMax`. Give them back with `putBack` if they were not committed. */
  take(rowsMax = batchRowsMax): readonly QueuedRow<Row>[] {
    const taken = this.#rows.splice(0, rowsMax);
    for (const { row } of taken) this.#bytes -= this.policy.bytes(row);
    return taken;
  }

  /** Puts rows that were taken back in front. */
  putBack(taken: readonly QueuedRow<Row>[]): void {
    this.#rows.unshift(...taken);
    for (const { row } of taken) this.#bytes += this.policy.bytes(row);
    this.#bound();
  }

  /** What was lost, for the row that says so; counting starts again. Null where nothing was. */
  takeDropped(): Dropped | null {
    if (this.#dropped.size === 0) return null;
    const dropped = this.dropped;
    this.#dropped = new Map();
    return dropped;
  }

  #bound(): void {
    if (this.#rows.length <= this.rowsMax && this.#bytes <= this.bytesMax) return;
    const rowsWanted = Math.floor(this.rowsMax * keptRatio);
    const bytesWanted = Math.floor(this.bytesMax * keptRatio);
    for (let rank = 0; rank < this.policy.ranks; rank += 1) {
      if (this.policy.shrink?.before === rank) this.#shrinkRows(bytesWanted);
      this.#dropRank(rank, rowsWanted, bytesWanted);
    }
  }

  #dropRank(rank: number, rowsWanted: number, bytesWanted: number): void {
    let rows = this.#rows.length;
    this.#rows = this.#rows.filter(({ row }) => {
      if ((rows <= rowsWanted && this.#bytes <= bytesWanted) || this.policy.rank(row) !== rank) return true;
      rows -= 1;
      this.#bytes -= this.policy.bytes(row);
      this.#count(this.policy.kind(row));
      return false;
    });
  }

  #shrinkRows(bytesWanted: number): void {
    for (const queued of this.#rows) {
      if (this.#bytes <= bytesWanted) return;
      const smaller = this.policy.shrink?.row(queued.row) ?? null;
      if (smaller === null) continue;
      this.#bytes += this.policy.bytes(smaller) - this.policy.bytes(queued.row);
      queued.row = smaller;
      this.#count(this.policy.shrink!.kind);
    }
  }

  #count(kind: string): void {
    this.#dropped.set(kind, (this.#dropped.get(kind) ?? 0) + 1);
  }
}

/** Events go first, then whole reports (the fault and its intent stay), outcomes, faults; intents and windows never. */
const journalRanks: Readonly<Record<JournalRow["kind"], number | null>> = {
  event: 0,
  outcome: 1,
  fault: 2,
  learned: 3,
  intent: null,
  window: null,
};
const journalPolicy: RowPolicy<JournalRow> = {
  bytes: (row) => row.head.length + (row.body?.length ?? 0) + row.id.length + rowOverheadBytes,
  rank: (row) => journalRanks[row.kind],
  ranks: 4,
  kind: (row) => row.kind,
  shrink: { before: 1, row: (row) => (row.body === null ? null : { ...row, body: null }), kind: "report" },
};

const rankOf = (kind: MessageClass): number => messageClasses.indexOf(kind);
/** Messages go in the order of their class, then acknowledgements and cursors (they only repeat work), then jobs and notes. */
const outboxPolicy: RowPolicy<OutboxRow> = {
  bytes: (row) =>
    rowOverheadBytes + ("head" in row ? (row.head?.length ?? 0) : 0) + ("body" in row ? row.body.length : 0),
  rank: (row) => {
    if (row.kind === "message") return rankOf(row.class);
    if (row.kind === "command" || row.kind === "key") return null;
    return messageClasses.length + (row.kind === "job" || row.kind === "note" ? 1 : 0);
  },
  ranks: messageClasses.length + 2,
  kind: (row) => (row.kind === "message" ? row.class : row.kind),
};

export const rowPolicies: { readonly [Name in LaneName]: RowPolicy<RowOf[Name]> } = {
  journal: journalPolicy,
  outbox: outboxPolicy,
  history: { bytes: () => rowOverheadBytes, rank: () => 0, ranks: 1, kind: () => "sample" },
};
