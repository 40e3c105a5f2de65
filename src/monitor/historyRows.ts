// SPDX-License-Identifier: Apache-2.0
/**
 * What goes into the history file every ten seconds: the curves that a page draws. Gets the monitor; gives rows by the names
 * below; the box's own have the workload "". Values are of the last seconds, never totals, so that their means mean something.
 *
 *     cpu_ratio memory_available_bytes swap_free_bytes temperature_celsius disk_free_bytes
 *     memory_pressure_ratio io_pressure_ratio cpu_pressure_ratio                              of the box
 *     processors resident_bytes threads open_files page_faults_per_second
 *     instructions_per_cycle cache_misses_per_second guest_exits_per_second                   of a workload
 */
import { type CounterEvent, type HostHealth, pressureResources, seenOr } from "#health.ts";
import { type Frame, lastFrames, rate } from "./detectors/frame.ts";
import type { Monitor } from "./monitor.ts";
import type { WatchedWorkload } from "./watchedWorkload.ts";

export type HistoryRow = {
  readonly name: string;
  readonly workload: string;
  readonly value: number;
  readonly unit: string;
};

const windowMs = 10_000;

/** What the box's totals were the last time. */
export type HistoryState = Pick<HostHealth, "processorSeconds" | "busySeconds"> | null;

/** Rows of now, and what to hand in the next time. */
export function historyRows(
  monitor: Pick<Monitor, "host" | "workloads">,
  before: HistoryState,
): { readonly rows: readonly HistoryRow[]; readonly state: HistoryState } {
  const { host } = monitor;
  const box = host === null ? [] : hostRows(host, before);
  return { rows: [...box, ...monitor.workloads.flatMap(workloadRows)], state: host };
}

function hostRows(host: HostHealth, before: HistoryState): HistoryRow[] {
  const row = (name: string, unit: string, value: number | null | undefined): HistoryRow[] =>
    value == null || !Number.isFinite(value) ? [] : [{ name, workload: "", value, unit }];
  const memory = seenOr(host.memory, null);
  const pressure = seenOr(host.pressure, null);
  const heat = seenOr(host.temperatures, []).map(({ celsius }) => celsius);
  return [
    ...row("memory_available_bytes", "B", memory?.availableBytes),
    ...row("swap_free_bytes", "B", memory?.swapFreeBytes),
    ...row("temperature_celsius", "Cel", heat.length === 0 ? null : Math.max(...heat)),
    ...row(
      "disk_free_bytes",
      "B",
      host.disks.length === 0 ? null : Math.min(...host.disks.map(({ freeBytes }) => freeBytes)),
    ),
    ...pressureResources.flatMap((resource) =>
      row(`${resource}_pressure_ratio`, "/", pressure?.[resource]?.some.over10s),
    ),
    ...row("cpu_ratio", "/", busyRatio(host, before)),
  ];
}

function busyRatio(host: HostHealth, before: HistoryState): number | null {
  const passed = before === null ? 0 : host.processorSeconds - before.processorSeconds;
  return before === null || passed <= 0 ? null : (host.busySeconds - before.busySeconds) / passed;
}

function workloadRows({ workload, history }: WatchedWorkload): HistoryRow[] {
  const frames = lastFrames(history.frames, windowMs);
  const last = frames.at(-1);
  if (last === undefined) return [];
  const row = (name: string, unit: string, value: number | null | undefined): HistoryRow[] =>
    value == null || !Number.isFinite(value) ? [] : [{ name, workload, value, unit }];
  const per = (event: CounterEvent): number | null => rate(frames, (frame: Frame) => frame.counters[event]);
  const [instructions, cycles] = [per("instructions"), per("cycles")];
  return [
    ...row(
      "processors",
      "",
      rate(frames, (frame) => frame.cpuSeconds),
    ),
    ...row("resident_bytes", "B", last.residentBytes),
    ...row("threads", "", last.threadCount),
    ...row("open_files", "", last.openFiles),
    ...row("page_faults_per_second", "1/s", per("page_faults")),
    ...row("instructions_per_cycle", "", instructions === null || !cycles ? null : instructions / cycles),
    ...row("cache_misses_per_second", "1/s", per("cache_misses")),
    ...row(
      "guest_exits_per_second",
      "1/s",
      rate(frames, (frame) => frame.exits),
    ),
  ];
}
