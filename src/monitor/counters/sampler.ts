// SPDX-License-Identifier: Apache-2.0
/**
 * Reads the counters of all watched threads, once a tick, into the sample board. Gets threads to watch; gives abilities and
 * the totals of each workload. A tick allocates nothing: one read a group, straight into shared memory.
 *
 * A thread that ends leaves its last totals with its workload. Threads beyond `slotsMax` are not counted, and that is told.
 */
import type { Box } from "#board/box.ts";
import { groupHeadWords, PerfGroup, PerfReads } from "#board/native/perfEvents.ts";
import type { Absent, CounterReading } from "#health.ts";
import type { EventPlan, PlannedGroup } from "./eventPlan.ts";
import { refusalOf } from "./refusals.ts";
import { columnsOf, finePeriodNs, type SampleBoard, slotsMax } from "./sampleBoard.ts";

const wordBytes = 8;
/** Within the numbers of a group. */
const enabledWord = 1;

/** A counter as it was opened for a thread. */
export type Opened = {
  readonly group: number;
  readonly place: number;
  readonly state: "user" | "user and kernel" | Absent;
};

type Thread = {
  readonly slot: number;
  readonly tid: number;
  readonly workload: number;
  readonly groups: readonly PerfGroup[];
  /** Where the numbers of each of them begin within a row, in bytes. */
  readonly places: readonly number[];
};

export class Sampler implements Disposable {
  readonly #columns: readonly number[];
  readonly #bySlot: (Thread | null)[] = Array.from({ length: slotsMax }, () => null);
  /** Totals of threads that have ended: for each workload one row without its time. */
  readonly #ended = new Map<number, Float64Array>();
  #opened: readonly Opened[] = [];
  /** Those of the slots that are in use, for the tick. */
  #active: Thread[] = [];
  readonly #reads: PerfReads;
  #fineNs = 0;

  constructor(
    private readonly plan: EventPlan,
    private readonly board: SampleBoard,
    private readonly box: Box,
  ) {
    this.#columns = columnsOf(plan);
    this.#reads = new PerfReads(board.buffer);
  }

  /** What the kernel said to each planned event, for the thread that was opened last. */
  get opened(): readonly Opened[] {
    return this.#opened;
  }
  get threads(): number {
    return this.#bySlot.filter((thread) => thread !== null).length;
  }
  threadsOf(workload: number): readonly number[] {
    return this.#bySlot.flatMap((thread) => (thread?.workload === workload ? [thread.tid] : []));
  }

  /** How long a thread had run at the last tick, ns since it is counted; null where it is not. */
  ranNs(tid: number): number | null {
    const thread = this.#active.find((each) => each.tid === tid);
    const row = thread === undefined ? null : this.board.newestRow(thread.slot);
    if (row === null || thread?.places[0] === undefined) return null;
    return this.board.word(row + thread.places[0] / wordBytes + enabledWord);
  }

  /** From now on exactly these threads of a workload are counted, as far as there is room. `virtual`: exits too. */
  watch(workload: number, tids: readonly number[], virtual: boolean): void {
    const wanted = new Set(tids);
    for (const thread of this.#bySlot) {
      if (thread?.workload !== workload) continue;
      if (!wanted.delete(thread.tid)) this.#release(thread);
    }
    for (const tid of wanted) {
      const slot = this.#bySlot.indexOf(null);
      if (slot < 0) return;
      this.#open(slot, tid, workload, virtual);
    }
  }

  /** Reads all counters once. */
  tick(nowNs: number): void {
    const { board } = this;
    this.#reads.read(board.begin(nowNs));
    board.end();
    if (nowNs - this.#fineNs < finePeriodNs) return;
    this.#fineNs = nowNs;
    board.keepFine();
  }

  /** Totals of all threads of a workload, those that ended among them. */
  totals(workload: number): CounterReading[] {
    const rows = this.#bySlot.flatMap((thread) =>
      thread?.workload === workload ? (this.#newest(thread.slot) ?? []) : [],
    );
    const ended = this.#ended.get(workload);
    return this.plan.groups.flatMap(({ cluster, events }, group) =>
      events.flatMap(({ event }, place): CounterReading[] => {
        const counted = [...rows, ...(ended === undefined ? [] : [ended])].map((row) =>
          this.#scaled(row, group, place),
        );
        const known = counted.filter((each) => each !== null);
        if (known.length === 0) return [];
        const enabled = known.reduce((sum, each) => sum + each.enabled, 0);
        const running = known.reduce((sum, each) => sum + each.running, 0);
        const total = running === 0 && enabled > 0 ? null : known.reduce((sum, each) => sum + each.value, 0);
        return [{ event, cluster, total, runningRatio: enabled === 0 ? 0 : running / enabled }];
      }),
    );
  }

  [Symbol.dispose](): void {
    for (const thread of this.#bySlot) if (thread !== null) this.#release(thread);
  }

  #open(slot: number, tid: number, workload: number, virtual: boolean): void {
    const opened: Opened[] = [];
    const groups: PerfGroup[] = [];
    const places: number[] = [];
    for (const [index, planned] of this.plan.groups.entries()) {
      if (planned.kind === "tracepoint" && !virtual) continue;
      const group = this.#openGroup(tid, planned, index, opened);
      if (group === null) continue;
      groups.push(group);
      places.push(this.#columns[index]! * wordBytes);
    }
    this.#opened = opened;
    this.board.assign(slot, tid, workload);
    // Numbers that nobody writes say so.
    this.board.clear(slot);
    const thread = { slot, tid, workload, groups, places };
    this.#bySlot[slot] = thread;
    this.#activate([...this.#active, thread]);
  }

  /** A group counts as a whole or not at all. */
  #openGroup(tid: number, planned: PlannedGroup, group: number, opened: Opened[]): PerfGroup | null {
    const { events, scope } = planned;
    const perf = PerfGroup.open(tid, events, scope === "user");
    const errno = perf.answers.find((answer) => answer !== null) ?? null;
    for (const [place, { event }] of events.entries()) {
      opened.push({ group, place, state: errno === null ? scope : refusalOf(event, errno, this.box) });
    }
    if (errno === null) return perf;
    perf[Symbol.dispose]();
    return null;
  }

  #release(thread: Thread): void {
    const row = this.#newest(thread.slot);
    if (row !== null) this.#keep(thread, row);
    this.#activate(this.#active.filter((each) => each !== thread));
    for (const group of thread.groups) group[Symbol.dispose]();
    this.board.assign(thread.slot, 0, 0);
    this.#bySlot[thread.slot] = null;
  }

  /** These are what a tick reads. */
  #activate(threads: Thread[]): void {
    this.#active = threads;
    this.board.use(threads.map(({ slot }) => slot));
    const placed = threads.map(({ groups, places }, thread) =>
      groups.map((group, index) => ({ group, thread, placeBytes: places[index]! })),
    );
    this.#reads.set(placed.flat());
  }

  /** Adds the last totals of a thread that is gone to those of its workload. */
  #keep({ workload }: Thread, row: Float64Array): void {
    const kept = this.#ended.get(workload) ?? new Float64Array(this.board.width);
    for (let at = 1; at < row.length; at += 1) kept[at] = kept[at]! + row[at]!;
    this.#ended.set(workload, kept);
  }

  #newest(slot: number): Float64Array | null {
    const row = this.board.newestRow(slot);
    return row === null ? null : Float64Array.from({ length: this.board.width }, (_, at) => this.board.word(row + at));
  }

  #scaled(row: Float64Array, group: number, place: number): { enabled: number; running: number; value: number } | null {
    const at = this.#columns[group]!;
    const [events, enabled, running, value] = [row[at]!, row[at + 1]!, row[at + 2]!, row[at + groupHeadWords + place]!];
    if (events === 0) return null;
    return { enabled, running, value: running > 0 ? (value * enabled) / running : 0 };
  }
}
