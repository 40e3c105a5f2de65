// SPDX-License-Identifier: Apache-2.0
/**
 * One program or guest: its state, what it survived and by which rung, its last faults, what can be done. Gives HTML.
 */
import { rungs } from "#fault.ts";
import type { MetricSample } from "#metrics.ts";
import type { Issue } from "../model/issue.ts";
import type { FaultLine } from "../model/readModel.ts";
import type { WorkloadLine } from "../model/workloads.ts";
import { arrivedShare, timeWithin } from "../model/workloads.ts";
import type { ArrivingTold, StandbyTold, WorkloadTold } from "../told.ts";
import { stateBadge } from "./badge.ts";
import { faultTable } from "./faultList.ts";
import { bytes, dash, duration, micros, percent, plural } from "./format.ts";
import { verbForm } from "./forms.ts";
import { type Html, html, nothing } from "./html.ts";
import { issueList } from "./issueList.ts";
import type { Viewer } from "./layout.ts";
import { meter, type Pair, pairs } from "./pairs.ts";

export type WorkloadView = {
  readonly line: WorkloadLine;
  readonly faults: readonly FaultLine[];
  readonly chart: Html;
  readonly issues: readonly Issue[];
  readonly nowMs: number;
  readonly viewer: Viewer;
  /** How long the guest waited for pages after restores; null where it never did. */
  readonly restored: MetricSample | null;
};

export function workloadPage({ line, faults, chart, issues, nowMs, viewer, restored }: WorkloadView): Html {
  const { told } = line;
  const facts: Pair[] = [
    ["State", html`${stateBadge(told.state)} for ${duration(nowMs - told.sinceMs)}`],
    ["Protected", protection(told)],
    ...(told.arriving === null ? [] : [["Memory arriving", arriving(told.arriving)] as const]),
    ...waits(told.arriving, restored),
    ...(told.standby === null ? [] : [["Stands by", standsBy(told.standby)] as const]),
    ["Kind", told.kind],
    ["Process", told.pid === null ? dash : `${told.pid}${told.threads === null ? "" : `, ${told.threads} threads`}`],
    [
      "Restarts",
      told.restarts === null
        ? "nothing restarts it by itself"
        : `${told.restarts.used} used, ${told.restarts.max - told.restarts.used} left in this window`,
    ],
    ...(told.programs.length === 0 ? [] : [["Programs inside", told.programs.join(", ")] as const]),
    ["Faults on record", `${line.faults}, ${line.survived} survived`],
    ["Sessions cut", String(line.cut)],
    ["Median stop", line.stopUsMedian === null ? dash : micros(line.stopUsMedian)],
  ];
  return html`<p class="crumb"><a href="/">Overview</a> <span aria-hidden="true">/</span> workload</p><h1>${told.name}</h1>
<div data-part="workload">${issues.length === 0 ? nothing : html`<h2>${plural(issues.length, "open issue")}</h2>`}${issueList(issues, nowMs, viewer)}${pairs(facts)}</div>
${told.verbs.length === 0 ? nothing : html`<section aria-labelledby="acts"><h2 id="acts">Actions</h2><div class="buttons">${told.verbs.map((verb) => verbForm(verb, told.name, viewer))}</div></section>`}
<section aria-labelledby="rungs"><h2 id="rungs">By rung and outcome</h2><div data-part="rungs">${rungTable(line)}</div></section>
<section aria-labelledby="day"><h2 id="day">Last 24 hours</h2><div data-part="day">${chart}</div></section>
<section aria-labelledby="faults"><h2 id="faults">Last faults</h2><div data-part="faults">${faultTable(faults, nowMs)}</div></section>`;
}

function protection({ protected: isProtected, why, suppressionOff }: WorkloadTold): string {
  if (suppressionOff) return "no: suppression is switched off, faults are passed on to it";
  return isProtected ? "yes: a fatal fault would be met" : `no${why === null ? "" : `: ${why}`}`;
}

/** A restored guest runs while its memory arrives: how much is there, and how it came. */
function arriving(told: ArrivingTold): Html {
  const { checkpoint, contentBytes, prefetchedBytes, demandedBytes, backgroundBytes } = told;
  const share = arrivedShare(told);
  const words = `${percent(share)}: ${bytes(share * contentBytes)} of ${bytes(contentBytes)}`;
  return html`${meter(share, words)}<span class="soft">from checkpoint <code>${checkpoint}</code>: ${bytes(prefetchedBytes)} before it ran, ${bytes(demandedBytes)} when it asked, ${bytes(backgroundBytes)} behind its back</span>`;
}

/** The process that would take the guest over, or why there is none. */
function standsBy({ state, checkpoint, pid, why }: StandbyTold): Html {
  if (state === "ready") return html`process ${pid}, with checkpoint <code>${checkpoint}</code>`;
  if (state === "raising") return html`soon, with checkpoint <code>${checkpoint}</code>`;
  return html`none<span class="soft">${why === null ? "" : `: ${why}`}</span>`;
}

/** For each page that a restored guest touched too early: of this restore while it goes on, else of all since we run. */
function waits(arriving: ArrivingTold | null, restored: MetricSample | null): Pair[] {
  const [half, most] =
    arriving === null
      ? [timeWithin(restored, 0.5), timeWithin(restored, 0.99)]
      : [arriving.waitUsP50, arriving.waitUsP99];
  if (half === null) return [];
  const late = most === null ? "some longer than a minute" : `99 % at most ${micros(most)}`;
  return [["Waits for a page", `half of them at most ${micros(half)}, ${late}`]];
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
