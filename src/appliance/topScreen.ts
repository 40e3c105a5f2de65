// SPDX-License-Identifier: Apache-2.0
/**
 * The screen of `holdfast top`. Gets what each supervisor sees and the size of the terminal; gives lines, cut to the width and
 * the height. Pure.
 *
 * State is told by words, never by colour alone. What cannot be seen says `-`, and why at the bottom.
 */
import { type CounterReading, type MonitorView, type Pressures, seenOr } from "#health.ts";
import { amount, sparkline } from "./flightPicture.ts";

export type ScreenSize = { readonly columns: number; readonly rows: number };

type WorkloadLook = MonitorView["workloads"][number];
/** Processors used that fill a bar, at least. */
const fullBar = 1;
const detectionsShown = 8;
const reasonsShown = 4;

/** `before`: the views of the last round, for rates. */
export function topScreen(views: readonly MonitorView[], before: readonly MonitorView[], size: ScreenSize): string[] {
  const curve = Math.max(10, Math.min(60, size.columns - 92));
  const host = views.find((view) => view.host !== null) ?? null;
  const lines = [
    ...headLines(views),
    ...(host === null ? [] : hostLines(host)),
    "",
    tableHead(curve),
    ...views.flatMap((view) => {
      const last = before.find((each) => sameSupervisor(each, view));
      return view.workloads.map((look) => workloadLine(look, view, last, curve));
    }),
    "",
    ...detectionLines(views),
    ...reasonLines(views),
  ];
  return lines.slice(0, size.rows).map((line) => fit(line, size.columns));
}

function headLines(views: readonly MonitorView[]): string[] {
  const workloads = views.flatMap((view) => view.workloads);
  const faults = workloads.reduce((sum, { faults }) => sum + faults, 0);
  const troubles = views.reduce((sum, { detections }) => sum + detections.length, 0);
  const atMs = Math.max(...views.map((view) => view.atMs), 0);
  const time = views.length === 0 ? "" : `  ${new Date(atMs).toISOString().slice(11, 19)} UTC`;
  const state = troubles === 0 ? "no trouble seen" : `TROUBLE: ${troubles}`;
  return [
    `holdfast top  ${counted(views.length, "supervisor")}, ${counted(workloads.length, "workload")}, ${counted(faults, "fault")}; ${state}${time}`,
  ];
}

function hostLines({ host, hostBefore: last = null }: MonitorView): string[] {
  if (host === null) return [];
  const passed = last === null ? 0 : host.processorSeconds - last.processorSeconds;
  const busy = last === null || passed <= 0 ? null : (host.busySeconds - last.busySeconds) / passed;
  const memory = seenOr(host.memory, null);
  const heat = seenOr(host.temperatures, []).map(({ celsius }) => celsius);
  const clock = seenOr(host.clock, null);
  const disks = host.disks.map(({ mount, freeBytes }) => `${mount} ${amount(freeBytes, "B")} free`);
  const words = [
    `cpu ${busy === null ? "-" : amount(busy, "/")} of ${host.processors}`,
    memory === null
      ? "memory -"
      : `memory ${amount(memory.availableBytes, "B")} of ${amount(memory.totalBytes, "B")} free`,
    memory === null || memory.swapTotalBytes === 0 ? "no swap" : `swap ${amount(memory.swapFreeBytes, "B")} free`,
    `heat ${heat.length === 0 ? "-" : `${Math.max(...heat).toFixed(0)} °C`}`,
    `clock ${clock === null ? "-" : clock.synced ? "synced" : "not synced"}`,
  ];
  return [
    `box       ${words.join("   ")}`,
    `pressure  ${pressureText(seenOr(host.pressure, null))}   (some / full, last 10 s)`,
    `disks     ${disks.join("   ")}`,
  ];
}

function pressureText(pressure: Pressures | null): string {
  if (pressure === null) return "-";
  const part = (name: "cpu" | "memory" | "io"): string => {
    const each = pressure[name];
    return each === null
      ? `${name} -`
      : `${name} ${amount(each.some.over10s, "/")} / ${each.full === null ? "-" : amount(each.full.over10s, "/")}`;
  };
  return `${part("cpu")}   ${part("memory")}   ${part("io")}`;
}

const columns = {
  name: 16,
  state: 10,
  cpu: 6,
  memory: 10,
  threads: 5,
  files: 6,
  switches: 8,
  ipc: 5,
  faults: 7,
  probes: 9,
};

const tableHead = (curve: number): string =>
  row(["WORKLOAD", "STATE", "CPU", "MEMORY", "THR", "FILES", "SWITCH", "IPC", "FAULTS", "PROBES", `LAST ${curve} s`]);

function workloadLine(look: WorkloadLook, view: MonitorView, last: MonitorView | undefined, curve: number): string {
  const { health, counters, faults, processorShare } = look;
  const running = seenOr(health.process, null);
  const old = last?.workloads.find((each) => each.health.workload === health.workload) ?? null;
  const seconds = old === null ? 0 : (health.atMs - old.health.atMs) / 1000;
  const rate = (event: CounterReading["event"]): number | null => {
    const [now, then] = [counters, old?.counters].map((each) => totalOf(each?.readings ?? [], event));
    return now == null || then == null || seconds <= 0 || now < then ? null : (now - then) / seconds;
  };
  const [instructions, cycles, switches] = [rate("instructions"), rate("cycles"), rate("context_switches")];
  const troubled = view.detections.some(({ workload }) => workload === health.workload);
  const share = processorShare.slice(-curve);
  const failing = health.probes.filter(({ state }) => state === "failing").length;
  return row([
    health.workload,
    running === null ? "down" : troubled ? "TROUBLE" : health.kind === "guest" ? "guest" : "running",
    text(share.at(-1) ?? null, (value) => value.toFixed(2)),
    text(running?.residentBytes ?? null, (value) => amount(value, "B")),
    text(running?.threads ?? null, String),
    text(running?.openFiles ?? null, String),
    text(switches, (value) => amount(value, "1/s")),
    text(instructions === null || !cycles ? null : instructions / cycles, (value) => value.toFixed(2)),
    String(faults),
    health.probes.length === 0 ? "-" : failing > 0 ? `${failing} FAIL` : `${health.probes.length} ok`,
    sparkline(share, 0, Math.max(fullBar, ...share.map((value) => value ?? 0))),
  ]);
}

function row(cells: readonly string[]): string {
  const widths = Object.values(columns);
  return cells
    .map((cell, index) => {
      const width = widths[index];
      if (width === undefined) return cell;
      const cut = cell.length > width ? `${cell.slice(0, width - 1)}…` : cell;
      return index < 2 ? cut.padEnd(width) : cut.padStart(width);
    })
    .join(" ");
}

function detectionLines(views: readonly MonitorView[]): string[] {
  const all = views.flatMap((view) => view.detections).slice(-detectionsShown);
  if (all.length === 0) return [];
  const lines = all.map(
    ({ workload, detector, text: what, sinceMs }) =>
      `  ${new Date(sinceMs).toISOString().slice(11, 19)}  ${workload}  ${detector}: ${what}`,
  );
  return ["Trouble:", ...lines, ""];
}

/** What cannot be counted here, each reason once. */
function reasonLines(views: readonly MonitorView[]): string[] {
  const reasons = new Map<string, string[]>();
  for (const { counters } of views) {
    for (const { event, cluster, state } of counters.events) {
      if (state.kind === "seen") continue;
      const why = state.advice === "" ? state.why : `${state.why}; ${state.advice}`;
      const named = cluster === "" ? event : `${event}@${cluster}`;
      reasons.set(why, [...new Set([...(reasons.get(why) ?? []), named])]);
    }
  }
  return [...reasons].slice(0, reasonsShown).map(([why, events]) => `not counted: ${events.join(", ")}: ${why}`);
}

/** Views come in the order of their supervisors; workloads tell which one it is. */
const sameSupervisor = (a: MonitorView, b: MonitorView): boolean =>
  a.workloads[0]?.health.workload === b.workloads[0]?.health.workload;

/** All clusters together. */
function totalOf(readings: readonly CounterReading[], event: CounterReading["event"]): number | null {
  const totals = readings.flatMap((reading) =>
    reading.event === event && reading.total !== null ? [reading.total] : [],
  );
  return totals.length === 0 ? null : totals.reduce((sum, total) => sum + total, 0);
}

const text = (value: number | null, write: (value: number) => string): string => (value === null ? "-" : write(value));
const counted = (number: number, noun: string): string => `${number} ${noun}${number === 1 ? "" : "s"}`;

/** Cut to the width, as the terminal counts it. */
function fit(line: string, width: number): string {
  if (Bun.stringWidth(line) <= width) return line;
  return `${[...line].slice(0, Math.max(0, width - 1)).join("")}…`;
}
