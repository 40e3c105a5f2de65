// SPDX-License-Identifier: Apache-2.0
/**
 * Issues as a list: what is wrong, since when, what it causes, what to do, and the button that may cure it. Gives HTML.
 */
import type { Issue } from "../model/issue.ts";
import { healthTones, shape } from "./badge.ts";
import { duration } from "./format.ts";
import { verbForm } from "./forms.ts";
import { type Html, html, nothing } from "./html.ts";
import type { Viewer } from "./layout.ts";

export const issueList = (issues: readonly Issue[], nowMs: number, viewer: Viewer): Html =>
  issues.length === 0
    ? nothing
    : html`<ul class="issues">${issues.map((issue) => issueItem(issue, nowMs, viewer))}</ul>`;

function issueItem(issue: Issue, nowMs: number, viewer: Viewer): Html {
  const tone = healthTones[issue.severity];
  const since =
    issue.sinceMs === null ? nothing : html`<span class="soft">since ${duration(nowMs - issue.sinceMs)}</span>`;
  return html`<li class="issue ${tone}">${shape(tone, 18)}<div><h3>${issue.title}</h3> ${since}<p>${issue.effect}</p><p class="fix"><strong>What to do:</strong> ${issue.fix}</p>${
    issue.verb === null ? nothing : verbForm(issue.verb, issue.workload, viewer)
  }<p class="code">${issue.code}</p></div></li>`;
}
