// SPDX-License-Identifier: Apache-2.0
/**
 * The flight record: the last minute of a workload around a fault, as curves on one grid of times. Gets the seconds of its
 * history, the fine rings of the sample board and what happened; gives plain data of a few kilobytes. Pure but for the board.
 *
 * A point where nothing was seen is a gap (null), never 0.
 */

import { groupHeadWords } from "#board/native/perfEvents.ts";
import type { CounterEvent, FlightCurve, FlightMark, FlightRecord } from "#health.ts";
import type { EventPlan } from "./counters/eventPlan.ts";
import { columnsOf, type SampleBoard, slotsMax } from "./counters/sampleBoard.ts";
import type { Frame } from "./detectors/frame.ts";

export const flightMs = 60_000;
export const stepMs = 500;
/** Of the minute, so much is after the fault. */
export const afterMs = 5_000;
export const marksMax = 64;

export type FlightSources = {
  readonly fault: string;
  readonly workload: string;
  readonly faultMs: number;
  /** Wall clock of monotonic 0. */
  readonly wallAtZeroMs: number;
  readonly frames: readonly Frame[];
  readonly tids: ReadonlySet<number>;
  readonly board: SampleBoard | null;
  readonly plan: EventPlan;
  readonly marks: readonly FlightMark[];
};

export function flightRecord(sources: FlightSources): FlightRecord {
  const { fault, workload, faultMs, frames, marks } = sources;
  const fromMs = faultMs + afterMs - flightMs;
  const times = Array.from({ length: flightMs / stepMs }, (_, index) => fromMs + (index + 1) * stepMs);
  const curves: FlightCurve[] = [
    ...counterCurves(sources, times),
    frameCurve(frames, times, "memory", "B", (frame) => frame.residentBytes),
    frameCurve(frames, times, "memory pressure", "/", (frame) => frame.pressure?.memory?.some.over10s ?? null),
    frameCurve(frames, times, "disk pressure", "/", (frame) => frame.pressure?.io?.some.over10s ?? null),
    frameCurve(frames, times, "faults", "", (frame) => frame.faults),
  ].filter(({ values }) => values.some((value) => value !== null));
  const within = marks.filter(({ atMs }) => atMs >= fromMs && atMs <= fromMs + flightMs).slice(-marksMax);
  return { fault, workload, faultMs, times, curves, marks: within };
}

const rateUnits: readonly [CounterEvent, string, FlightCurve["unit"], number][] = [
  ["task_clock", "processors", "", 1e9],
  ["instructions", "instructions", "1/s", 1],
  ["cycles", "cycles", "1/s", 1],
  ["cache_misses", "cache misses", "1/s", 1],
  ["branch_misses", "branch misses", "1/s", 1],
  ["page_faults", "page faults", "1/s", 1],
  ["context_switches", "switches", "1/s", 1],
  ["kvm_exits", "guest exits", "1/s", 1],
];

/** Rates of the counted events, all threads together, from the fine rings. */
function counterCurves(sources: FlightSources, times: readonly number[]): FlightCurve[] {
  const { board, plan, tids, wallAtZeroMs } = sources;
  if (board === null) return [];
  const columns = columnsOf(plan);
  const slots = Array.from({ length: slotsMax }, (_, slot) => slot).filter((slot) => tids.has(board.tid(slot)));
  const rows = slots.map((slot) => board.rowsOf(slot, "fine"));
  return rateUnits.flatMap(([event, name, unit, scale]): FlightCurve[] => {
    const places = plan.groups.flatMap(({ events }, group) =>
      events.flatMap((each, place) => (each.event === event ? [{ group: columns[group]!, place }] : [])),
    );
    const sums = new Array<number | null>(times.length).fill(null);
    for (const own of rows) {
      for (const place of places) addRates(sums, times, own, board, place, wallAtZeroMs, scale);
    }
    return sums.some((value) => value !== null) ? [{ name, unit, values: sums.map(short) }] : [];
  });
}

/** Adds the growth of one column, a second, between the grid's times. */
function addRates(
  sums: (number | null)[],
  times: readonly number[],
  rows: readonly number[],
  board: SampleBoard,
  { group, place }: { readonly group: number; readonly place: number },
  wallAtZeroMs: number,
  scale: number,
): void {
  let row = 0;
  let before: { atMs: number; value: number } | null = null;
  for (let index = 0; index < times.length; index += 1) {
    let newest: { atMs: number; value: number } | null = null;
    for (; row < rows.length; row += 1) {
      const at = rows[row]!;
      const atMs = wallAtZeroMs + board.timeNs(at) / 1e6;
      if (atMs > times[index]!) break;
      if (board.word(at + group) !== 0) newest = { atMs, value: board.word(at + group + groupHeadWords + place) };
    }
    if (newest !== null && before !== null && newest.atMs > before.atMs) {
      const rate = ((newest.value - before.value) / scale / (newest.atMs - before.atMs)) * 1000;
      sums[index] = (sums[index] ?? 0) + Math.max(0, rate);
    }
    before = newest ?? before;
  }
}

/** A value of the seconds: at each time the newest one, if it is not older than two seconds. */
function frameCurve(
  frames: readonly Frame[],
  times: readonly number[],
  name: string,
  unit: FlightCurve["unit"],
  read: (frame: Frame) => number | null,
): FlightCurve {
  const values = times.map((timeMs) => {
    const frame = frames.findLast(({ atMs }) => atMs <= timeMs);
    return frame === undefined || timeMs - frame.atMs > 2_000 ? null : short(read(frame));
  });
  return { name, unit, values };
}

/** Four digits are more than a picture shows. */
const short = (value: number | null): number | null => (value === null ? null : Number(value.toPrecision(4)));
