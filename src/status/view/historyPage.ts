// SPDX-License-Identifier: Apache-2.0
/**
 * Curves over an hour, a day, a week or a year, of the box or of one workload. Gets points; gives HTML without script.
 */
import { type Curve, type Span, spanMs } from "../model/curves.ts";
import type { FaultLine } from "../model/readModel.ts";
import { faultBars, faultChart, lineChart } from "./chart.ts";
import { type Html, html, nothing } from "./html.ts";

const spanWords: Readonly<{ [Name in Span]: string }> = {
  "1h": "last hour",
  "24h": "last 24 hours",
  "7d": "last 7 days",
  "1y": "last year",
};
const bars = 48;

/** The series of src/monitor/historyRows.ts, as people call them. */
const seriesWords: Readonly<Record<string, string>> = {
  cpu_ratio: "Processors busy",
  memory_available_bytes: "Memory available",
  swap_free_bytes: "Swap free",
  temperature_celsius: "Temperature",
  disk_free_bytes: "Disk free",
  cpu_pressure_ratio: "Waiting for processors",
  memory_pressure_ratio: "Waiting for memory",
  io_pressure_ratio: "Waiting for disks",
  processors: "Processors used",
  resident_bytes: "Memory resident",
  threads: "Threads",
  open_files: "Open files",
  page_faults_per_second: "Page faults",
  instructions_per_cycle: "Instructions a cycle",
  cache_misses_per_second: "Cache misses",
  guest_exits_per_second: "Exits of the guest",
};

export type HistoryView = {
  readonly span: Span;
  /** A workload, "" for the box. */
  readonly group: string;
  readonly groups: readonly string[];
  readonly curves: readonly Curve[];
  readonly faults: readonly FaultLine[];
  readonly nowMs: number;
};

export function historyPage({ span, group, groups, curves, faults, nowMs }: HistoryView): Html {
  const range = { fromMs: nowMs - spanMs[span], toMs: nowMs };
  const spans = (Object.keys(spanWords) as Span[]).map(
    (each) => html`<option value="${each}"${each === span ? html` selected` : nothing}>${spanWords[each]}</option>`,
  );
  const places = groups.map(
    (each) =>
      html`<option value="${each}"${each === group ? html` selected` : nothing}>${each === "" ? "the box" : each}</option>`,
  );
  return html`<h1>History</h1><form class="filter" method="get" action="/history"><label>Of <select name="workload">${places}</select></label><label>Span <select name="span">${spans}</select></label><button type="submit">Show</button></form>
<div data-part="history"><section><h2>Faults</h2>${faultChart(faultBars(faults, nowMs, spanMs[span], bars), spanWords[span])}</section>${
    curves.length === 0
      ? html`<p class="empty">No series are recorded for ${group === "" ? "the box" : group} yet.</p>`
      : curves.map(
          (curve) =>
            html`<section><h2>${seriesWords[curve.series] ?? curve.series}</h2>${lineChart(seriesWords[curve.series] ?? curve.series, curve.unit, curve.points, range)}</section>`,
        )
  }</div>`;
}
