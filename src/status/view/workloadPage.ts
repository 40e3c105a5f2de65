// SPDX-License-Identifier: Apache-2.0
/**
 * One program or guest: its state, what it survived and by which rung, its last faults, what can be done. Gives HTML.
 */
import { rungs } from "#fault.ts";
import type { Issue } from "../model/issues.ts";
import type { FaultLine } from "../model/readModel.ts";
import type { WorkloadLine } from "../model/workloads.ts";
import { stateBadge } from "./badge.ts";
import { faultTable } from "./faultList.ts";
import { ago, dash, micros } from "./format.ts";
import { verbForm } from "./forms.ts";
import { type Html, html, nothing } from "./html.ts";
import type { Viewer } from "./layout.ts";

export type WorkloadView = {
  readonly line: WorkloadLine;
  readonly faults: readonly FaultLine[];
  readonly chart: Html;
  readonly issues: readonly Issue[];
  readonly nowMs: number;
  readonly viewer: Viewer;
};

export function workloadPage({ line, faults, chart, issues, nowMs, viewer }: WorkloadView): Html {
  const { told } = line;
  const facts: readonly (readonly [string, Html | string])[] = [
    ["State", html`${stateBadge(told.state)} ${ago(told.sinceMs, nowMs)}`],
    ["Protected", told.protected ? "yes: a fatal fault would be met" : `no${told.why === null ? "" : `: ${told.why}`}`],
    ["Kind", told.kind],
    ["Process", told.pid === null ? dash : `${told.pid}${told.threads === null ? "" : `, ${told.threads} threads`}`],
    [
      "Restarts",
      told.restarts === null
        ? "nothing restarts it by itself"
        : `${told.restarts.used} used, ${told.restarts.max - told.restarts.used} left in this window`,
    ],
    ["Programs inside", told.programs.length === 0 ? dash : told.programs.join(", ")],
    ["Faults on record", `${line.faults}, ${line.survived} survived`],
    ["Sessions cut", String(line.cut)],
    ["Median stop", line.stopUsMedian === null ? dash : micros(line.stopUsMedian)],
  ];
  return html`<p class="crumb"><a href="/">Overview</a> <span aria-hidden="true">/</span> workload</p><h1>${told.name}</h1>
<div data-part="workload">${issues.map((issue) => html`<p class="error">${issue.title}. ${issue.effect}</p>`)}<dl class="pairs">${facts.map(([name, value]) => html`<dt>${name}</dt><dd>${value}</dd>`)}</dl></div>
${told.verbs.length === 0 ? nothing : html`<section aria-labelledby="acts"><h2 id="acts">Actions</h2><div class="buttons">${told.verbs.map((verb) => verbForm(verb, told.name, viewer))}</div></section>`}
<section aria-labelledby="rungs"><h2 id="rungs">By rung and outcome</h2><div data-part="rungs">${rungTable(line)}</div></section>
<section aria-labelledby="day"><h2 id="day">Last 24 hours</h2><div data-part="day">${chart}</div></section>
<section aria-labelledby="faults"><h2 id="faults">Last faults</h2><div data-part="faults">${faultTable(faults, nowMs)}</div></section>`;
}

function rungTable({ outcomes }: WorkloadLine): Html {
  const rows = rungs.filter((rung) => [...outcomes.keys()].some((key) => key.startsWith(`${rung} `)));
  if (rows.length === 0) return html`<p class="empty">Nothing had to be done so far.</p>`;
  const verdicts = ["clean", "degraded", "failed"] as const;
  return html`<table class="list"><caption class="unseen">Acts by rung and outcome</caption><thead><tr><th scope="col">Rung</th>${verdicts.map((verdict) => html`<th scope="col" class="number">${verdict}</th>`)}</tr></thead><tbody>${rows.map(
    (rung) =>
      html`<tr><th scope="row">${rung}</th>${verdicts.map((verdict) => html`<td class="number">${outcomes.get(`${rung} ${verdict}`) ?? 0}</td>`)}</tr>`,
  )}</tbody></table>`;
}
