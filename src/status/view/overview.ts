// SPDX-License-Identifier: Apache-2.0
/**
 * The first page: issues with cause and fix, workloads, the last day at a glance, last faults. Gets the view; gives HTML.
 */
import type { Issue } from "../model/issue.ts";
import type { FaultLine } from "../model/readModel.ts";
import { arrivedShare, type WorkloadLine, worstFirst } from "../model/workloads.ts";
import { limits } from "../settings.ts";
import { stateBadge } from "./badge.ts";
import { faultTable } from "./faultList.ts";
import { duration, micros, percent, plural } from "./format.ts";
import { type Html, html, nothing } from "./html.ts";
import { issueList } from "./issueList.ts";
import type { Viewer } from "./layout.ts";

export type Day = {
  readonly faults: number;
  readonly survived: number;
  readonly cut: number;
  readonly stopUsMedian: number | null;
  readonly stopUsMax: number | null;
};

export type Overview = {
  readonly issues: readonly Issue[];
  readonly workloads: readonly WorkloadLine[];
  readonly day: Day;
  readonly faults: readonly FaultLine[];
  readonly chart: Html;
  readonly nowMs: number;
  readonly viewer: Viewer;
};

export function overview(view: Overview): Html {
  return html`<h1 class="unseen">Overview</h1>
${issueSection(view)}
<section aria-labelledby="day"><h2 id="day">Last 24 hours</h2><div data-part="day">${dayFacts(view.day)}${view.chart}</div></section>
<section aria-labelledby="workloads"><h2 id="workloads">Workloads</h2><div data-part="workloads">${workloadTable(worstFirst(view.workloads).slice(0, limits.workloadRowsMax), view.nowMs)}${
    view.workloads.length <= limits.workloadRowsMax
      ? nothing
      : html`<p class="more"><a href="/workloads">All ${view.workloads.length} workloads</a></p>`
  }</div></section>
<section aria-labelledby="faults"><h2 id="faults">Last faults</h2><div data-part="faults">${faultTable(view.faults, view.nowMs)}${
    view.faults.length === 0 ? nothing : html`<p class="more"><a href="/faults">All faults</a></p>`
  }</div></section>`;
}

function issueSection({ issues, nowMs, viewer }: Overview): Html {
  if (issues.length === 0) return html`<div data-part="issues"></div>`;
  return html`<section aria-labelledby="issues" data-part="issues"><h2 id="issues">${plural(issues.length, "open issue")}</h2>${issueList(issues, nowMs, viewer)}</section>`;
}

function dayFacts(day: Day): Html {
  const facts: readonly (readonly [string, string, string])[] = [
    ["Faults", String(day.faults), day.faults === 0 ? "none" : `${day.survived} survived`],
    ["Sessions cut", String(day.cut), "guilty clients, nobody else"],
    ["Median stop", day.stopUsMedian === null ? "–" : micros(day.stopUsMedian), "of the one thread that faulted"],
    ["Longest stop", day.stopUsMax === null ? "–" : micros(day.stopUsMax), "of the one thread that faulted"],
  ];
  return html`<dl class="facts">${facts.map(
    ([name, value, note]) =>
      html`<div><dt>${name}</dt><dd><span class="figure">${value}</span><span class="soft">${note}</span></dd></div>`,
  )}</dl>`;
}

/** All of them, worst first, so many on a page. */
export function workloadsPage(workloads: readonly WorkloadLine[], from: number, nowMs: number): Html {
  const shown = worstFirst(workloads).slice(from, from + limits.workloadRowsMax);
  const next = from + shown.length;
  return html`<p class="crumb"><a href="/">Overview</a> <span aria-hidden="true">/</span> workloads</p><h1>Workloads</h1><div data-part="workloads"><p class="soft">${plural(workloads.length, "workload")}; those that need somebody first.</p>${workloadTable(shown, nowMs)}${
    next < workloads.length
      ? html`<p class="more"><a rel="next" href="/workloads?from=${next}">The next ones</a></p>`
      : nothing
  }</div>`;
}

export function workloadTable(workloads: readonly WorkloadLine[], nowMs: number): Html {
  if (workloads.length === 0)
    return html`<p class="empty">No workload is configured. Start one with <code>holdfast guard -- COMMAND</code>.</p>`;
  return html`<table class="list"><caption class="unseen">Workloads</caption><thead><tr><th scope="col">Name</th><th scope="col">State</th><th scope="col" class="wide">For</th><th scope="col" class="number">Faults</th><th scope="col" class="number wide">Median stop</th><th scope="col" class="number wide">Sessions cut</th><th scope="col" class="wide">Restarts</th></tr></thead><tbody>${workloads.map(
    (line) => workloadRow(line, nowMs),
  )}</tbody></table>`;
}

/** What the state alone would hide. */
function remark({ arriving, suppressionOff }: WorkloadLine["told"]): Html {
  if (arriving !== null)
    return html`<span class="soft">${percent(arrivedShare(arriving))} of its memory is back</span>`;
  return suppressionOff ? html`<span class="soft">suppression is off</span>` : nothing;
}

function workloadRow({ told, faults, survived, cut, stopUsMedian }: WorkloadLine, nowMs: number): Html {
  const budget =
    told.restarts === null ? "–" : `${told.restarts.max - told.restarts.used} of ${told.restarts.max} left`;
  return html`<tr><th scope="row"><a href="/workloads/${encodeURIComponent(told.name)}">${told.name}</a><span class="soft">${told.kind}${
    told.pid === null ? "" : `, process ${told.pid}`
  }</span></th><td>${stateBadge(told.state)}${remark(told)}</td><td class="wide">${duration(nowMs - told.sinceMs)}</td><td class="number">${faults}${
    faults === 0 ? nothing : html`<span class="soft wide">${survived} survived</span>`
  }</td><td class="number wide">${stopUsMedian === null ? "–" : micros(stopUsMedian)}</td><td class="number wide">${cut}</td><td class="wide">${budget}</td></tr>`;
}
