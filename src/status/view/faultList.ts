// SPDX-License-Identifier: Apache-2.0
/**
 * Faults as a table, and the page that filters them. Gets lines of the read model; gives HTML.
 */
import { type FaultEnd, type FaultLine, verdictOf } from "../model/readModel.ts";
import { endBadge } from "./badge.ts";
import { clip, dash, micros, shortSite, when } from "./format.ts";
import { type Html, html, nothing } from "./html.ts";

/** Longer names are cut in lists; the page of the fault has them whole. */
const nameLength = 60;

export function faultTable(faults: readonly FaultLine[], _nowMs: number): Html {
  if (faults.length === 0) return html`<p class="empty">No faults are on record.</p>`;
  return html`<table class="list"><caption class="unseen">Faults, newest first</caption><thead><tr><th scope="col">Time</th><th scope="col">Fault</th><th scope="col" class="wide">Workload</th><th scope="col" class="wide">Act</th><th scope="col" class="number wide">Stop</th><th scope="col" class="wide">Cut</th><th scope="col">Outcome</th></tr></thead><tbody>${faults.map(
    row,
  )}</tbody></table>`;
}

function row(fault: FaultLine): Html {
  const last = fault.trials.at(-1);
  const place = fault.symbol ?? shortSite(fault.site);
  return html`<tr><td class="time">${when(fault.atMs)}</td><th scope="row"><a href="/faults/${fault.id}"><span class="whole">${fault.signal}</span> in <code>${clip(place, nameLength)}</code></a></th><td class="wide"><a href="/workloads/${encodeURIComponent(fault.workload)}">${clip(fault.workload, nameLength)}</a></td><td class="wide">${
    last === undefined ? dash : last.delivered === null ? last.rung : "deliver"
  }</td><td class="number wide">${last?.stopUs ? micros(last.stopUs) : dash}</td><td class="wide">${last?.cut ?? dash}</td><td>${endBadge(verdictOf(fault))}</td></tr>`;
}

export type FaultFilter = {
  readonly workload: string;
  readonly verdict: FaultEnd | "";
  readonly before: number | null;
};

const verdicts: readonly (readonly [FaultEnd | "", string])[] = [
  ["", "any outcome"],
  ["clean", "survived"],
  ["degraded", "degraded"],
  ["failed", "failed"],
  ["delivered", "passed on"],
  ["probation", "on trial"],
];

export function faultsPage(
  faults: readonly FaultLine[],
  filter: FaultFilter,
  workloads: readonly string[],
  more: number | null,
  nowMs: number,
): Html {
  const older =
    more === null
      ? nothing
      : html`<p class="more"><a rel="next" href="/faults?before=${more}&amp;workload=${encodeURIComponent(filter.workload)}&amp;verdict=${filter.verdict}">Older faults</a></p>`;
  return html`<h1>Faults</h1>
<form class="filter" method="get" action="/faults">
<label>Workload <select name="workload">${["", ...workloads].map(
    (name) =>
      html`<option value="${name}"${name === filter.workload ? html` selected` : nothing}>${name === "" ? "all" : clip(name, nameLength)}</option>`,
  )}</select></label>
<label>Outcome <select name="verdict">${verdicts.map(
    ([value, word]) =>
      html`<option value="${value}"${value === filter.verdict ? html` selected` : nothing}>${word}</option>`,
  )}</select></label>
<button type="submit">Show</button></form>
<div data-part="faults">${faultTable(faults, nowMs)}${older}</div>`;
}
