// SPDX-License-Identifier: Apache-2.0
/**
 * Reads the counters of all watched threads, once a tick, into the sample board. Gets threads to watch; gives abilities and
 * the totals of each workload. A tick allocates nothing: one read a group, straight into shared memory.
 *
 * A thread that ends leaves its last totals with its workload. Threads beyond `slotsMax` are not counted, and that is told.
 */
import type { Box } from "#board/box.ts";
import { groupHeadNumbers, PerfGroup } from "#board/native/perfEvents.ts";
import type { Absent, CounterReading } from "#health.ts";
import type { EventPlan, PlannedGroup } from "./eventPlan.ts";
import { isPermission, needsKernel, refusalOf } from "./refusals.ts";
import { columnsOf, finePeriodNs, notCounted, type SampleBoard, slotsMax } from "./sampleBoard.ts";

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
  readonly groups: readonly (PerfGroup | null)[];
};

/** A type that no kernel has. */
const noEvent = { type: 0xffff, config: 0n };

export class Sampler implements Disposable {
  readonly #columns: readonly number[];
  readonly #bySlot: (Thread | null)[] = Array.from({ length: slotsMax }, () => null);
  /** Totals of threads that have ended: for each workload one row without its time. */
  readonly #ended = new Map<number, Float64Array>();
  #opened: readonly Opened[] = [];
  #fineNs = 0;

  constructor(
    private readonly plan: EventPlan,
    private readonly board: SampleBoard,
    private readonly box: Box,
  ) {
    this.#columns = columnsOf(plan);
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
    const fine = nowNs - this.#fineNs >= finePeriodNs;
    if (fine) this.#fineNs = nowNs;
    for (let slot = 0; slot < slotsMax; slot += 1) {
      const thread = this.#bySlot[slot]!;
      if (thread === null) continue;
      const row = board.nextRow(slot, "raw");
      board.rows[row] = nowNs;
      for (let index = 0; index < thread.groups.length; index += 1) {
        thread.groups[index]?.read(board.rows, row + this.#columns[index]!);
      }
      board.advance(slot, "raw");
      if (!fine) continue;
      board.rows.copyWithin(board.nextRow(slot, "fine"), row, row + board.width);
      board.advance(slot, "fine");
    }
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
    const groups = this.plan.groups.map((planned, group) => {
      if (planned.kind === "tracepoint" && !virtual) return null;
      return this.#openGroup(tid, planned, group, opened);
    });
    this.#opened = opened;
    this.board.assign(slot, tid, workload);
    // Numbers that nobody writes say so.
    this.board.clear(slot);
    this.#bySlot[slot] = { slot, tid, workload, groups };
  }

  #openGroup(tid: number, planned: PlannedGroup, group: number, opened: Opened[]): PerfGroup | null {
    let perf = PerfGroup.open(tid, planned.events, false);
    const userOnly = perf.answers.some((answer) => answer !== null && isPermission(answer));
    if (userOnly) {
      perf[Symbol.dispose]();
      // What happens in the kernel only would count 0 without its part: it is left out by an event that no kernel has.
      perf = PerfGroup.open(
        tid,
        planned.events.map((each) => (needsKernel.has(each.event) ? noEvent : each)),
        true,
      );
    }
    for (const [place, answer] of perf.answers.entries()) {
      const { event } = planned.events[place]!;
      const denied = userOnly && needsKernel.has(event);
      const state = denied
        ? refusalOf(event, 1, this.box)
        : answer === null
          ? userOnly
            ? "user"
            : "user and kernel"
          : refusalOf(event, answer, this.box);
      opened.push({ group, place, state });
    }
    return perf.size === 0 ? null : perf;
  }

  #release(thread: Thread): void {
    const row = this.#newest(thread.slot);
    if (row !== null) this.#keep(thread, row);
    for (const group of thread.groups) group?.[Symbol.dispose]();
    this.board.assign(thread.slot, 0, 0);
    this.#bySlot[thread.slot] = null;
  }

  /** Adds the last totals of a thread that is gone to those of its workload. */
  #keep({ workload }: Thread, row: Float64Array): void {
    const kept = this.#ended.get(workload) ?? new Float64Array(this.board.width).fill(notCounted);
    for (let at = 1; at < row.length; at += 1) {
      if (row[at] !== notCounted) kept[at] = Math.max(0, kept[at]!) + row[at]!;
    }
    this.#ended.set(workload, kept);
  }

  #newest(slot: number): Float64Array | null {
    const row = this.board.newestRow(slot);
    return row === null ? null : this.board.rows.slice(row, row + this.board.width);
  }

  #scaled(row: Float64Array, group: number, place: number): { enabled: number; running: number; value: number } | null {
    const at = this.#columns[group]!;
    const [enabled, running, value] = [row[at]!, row[at + 1]!, row[at + groupHeadNumbers + place]!];
    if (value === notCounted) return null;
    return { enabled, running, value: running > 0 ? (value * enabled) / running : 0 };
  }
}
