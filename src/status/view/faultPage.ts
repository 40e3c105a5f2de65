// SPDX-License-Identifier: Apache-2.0
/**
 * One fault in full: what happened, what it cost, what was done and why, and what to do. Gets the record; gives HTML.
 *
 * Everything in a record may have been shaped by whoever attacked the program, so it goes through `html` as text.
 */
import type { Frame, Outcome, RescuePoint } from "#fault.ts";
import type { FaultRecord, TrialRecord } from "#storage/journalReader.ts";
import { actWords, frameName, outcomeWords, placeOf, registerNames, verdictOfRecord } from "../model/faultWords.ts";
import { endBadge } from "./badge.ts";
import { fileName, hex64, micros, plural, when } from "./format.ts";
import { type Html, html, nothing } from "./html.ts";

const framesMax = 64;

export function faultPage(record: FaultRecord, around: Html): Html {
  const { head } = record;
  const last = record.trials.at(-1);
  const where = placeOf(record);
  return html`<p class="crumb"><a href="/faults">Faults</a> <span aria-hidden="true">/</span> ${record.id}</p>
<h1>${head.signal} in <code>${where ?? "unknown code"}</code></h1>
<div class="lead">${endBadge(verdictOfRecord(record))} <p>${outcomeWords(record)}</p></div>
${costs(record, last)}
${done(record)}
${stack(record, last)}
${evidence(record)}
${registers(record)}
<section aria-labelledby="around"><h2 id="around">The minute around it</h2>${around}</section>
${replay(record)}`;
}

function costs(record: FaultRecord, last: TrialRecord | undefined): Html {
  const { head } = record;
  const { report } = record;
  const outcome = last?.outcome ?? null;
  const facts: [string, Html | string][] = [
    ["When", when(record.atMs)],
    ["Workload", html`<a href="/workloads/${encodeURIComponent(head.workload)}">${head.workload}</a>`],
    ["Thread", `${head.tid}${head.threadName === "" ? "" : ` “${head.threadName}”`} of process ${head.pid}`],
    ["Thread stopped", outcome === null || outcome.stopUs <= 0 ? "not known" : micros(outcome.stopUs)],
    ["Session", sessionWords(outcome, last)],
    ["Address", report?.cause?.faultAddress == null ? "none" : hex64(report.cause.faultAddress)],
    ["Site", html`<code class="break">${head.site.fault}</code>`],
  ];
  return html`<section aria-labelledby="cost"><h2 id="cost">What happened</h2><dl class="pairs">${facts.map(
    ([name, value]) => html`<dt>${name}</dt><dd>${value}</dd>`,
  )}</dl></section>`;
}

function sessionWords(outcome: Outcome | null, last: TrialRecord | undefined): string {
  const session = outcome?.session ?? last?.decision.session ?? null;
  if (session === null) return "nobody was blamed with enough confidence; nobody was cut";
  const sure = `confidence ${Math.round(session.confidence * 100)} %`;
  const cut = outcome?.rung === "quarantine" ? "cut" : "blamed, not cut";
  return `${session.peer} ${cut} (descriptor ${session.fd}, ${sure})`;
}

function done(record: FaultRecord): Html {
  if (record.trials.length === 0) return nothing;
  return html`<section aria-labelledby="done"><h2 id="done">What was done, and why</h2><ol class="trials">${record.trials.map(
    (trial) =>
      html`<li><p><strong>${actWords(record.report, trial.decision.edit)}</strong></p><p>${trial.decision.reason}</p>${
        trial.outcome === null
          ? html`<p class="soft">No verdict: still on trial, passed on, or the supervisor ended first.</p>`
          : html`<p>${endBadge(trial.outcome.verdict)} after ${trial.outcome.probationMs} ms of probation</p><ul class="why">${trial.outcome.evidence.map((line) => html`<li>${line}</li>`)}</ul>`
      }</li>`,
  )}</ol>${candidates(record)}</section>`;
}

function candidates({ plan, report }: FaultRecord): Html {
  if (plan === null || plan.kind !== "edits" || plan.edits.length < 2) return nothing;
  return html`<details><summary>${plan.edits.length} acts were possible, best first</summary><ol>${plan.edits.map(
    (edit) => html`<li>${actWords(report, edit)}</li>`,
  )}</ol>${plan.notes.map((note) => html`<p class="soft">${note}</p>`)}</details>`;
}

function stack(record: FaultRecord, last: TrialRecord | undefined): Html {
  const { report } = record;
  if (report === null) {
    return html`<section aria-labelledby="stack"><h2 id="stack">Stack</h2><p class="empty">Only the short form is on record: the supervisor ended before it wrote the rest.</p></section>`;
  }
  const edit = last?.decision.edit;
  const point = edit?.kind === "abandon" ? edit.point : null;
  const frames = report.frames.slice(0, framesMax);
  const left = report.frames.length - frames.length;
  const note =
    point === null
      ? "Nothing of it was abandoned."
      : `The marked part was abandoned; ${frameName(report, report.frames[point.frame + 1])} went on as if it had returned ${point.returnValue}.`;
  return html`<section aria-labelledby="stack"><h2 id="stack">Stack</h2><p>${note}</p><div class="scroll" tabindex="0" role="region" aria-label="Frames"><table class="stack"><thead><tr><th scope="col">#</th><th scope="col">Function</th><th scope="col" class="wide">Where</th><th scope="col" class="wide">Entered</th><th scope="col">Part</th></tr></thead><tbody>${frames.map(
    (frame, index) => frameRow(record, frame, index, point),
  )}</tbody></table></div>${left > 0 ? html`<p class="soft">… ${left} more frames</p>` : nothing}${
    report.complete ? nothing : html`<p class="soft">The stack could not be unwound further.</p>`
  }</section>`;
}

const entries = {
  direct: "by call",
  pointer: "through a pointer",
  library: "library call",
  signal: "by the kernel",
  none: "",
};

function frameRow({ report }: FaultRecord, frame: Frame, index: number, point: RescuePoint | null): Html {
  const module = frame.module === null ? undefined : report!.modules[frame.module];
  const spine = report!.spine !== null && index >= report!.spine;
  const [kind, word] =
    point !== null && index <= point.frame
      ? ["gone", "abandoned"]
      : point !== null && index === point.frame + 1
        ? ["goes", `goes on with ${point.returnValue}`]
        : spine
          ? ["spine", "spine"]
          : ["", ""];
  const edge = kind === "gone" && index === 0 ? " first" : kind === "gone" && index === point!.frame ? " last" : "";
  return html`<tr class="${kind}${edge}"><td class="number">${index}</td><th scope="row"><code>${frameName(report!, frame)}</code></th><td class="wide"><code>${
    module === undefined ? "no file" : `${fileName(module.path)}+0x${frame.offset.toString(16)}`
  }</code></td><td class="wide">${entries[frame.enteredBy]}</td><td>${word}</td></tr>`;
}

function evidence({ report }: FaultRecord): Html {
  if (report === null || report.sessions.length === 0) return nothing;
  const rows = report.sessions
    .slice(0, framesMax)
    .map(
      (session) =>
        html`<tr><th scope="row"><code>${session.peer}</code></th><td class="number">${session.fd}</td><td class="number">${session.lastReceivedMs ?? "–"}</td><td class="number">${session.lastSentMs ?? "–"}</td><td class="number">${session.unreadBytes}</td><td class="number">${session.reach.direct} / ${session.reach.near} / ${session.reach.far}</td></tr>`,
    );
  return html`<section aria-labelledby="evidence"><h2 id="evidence">Evidence for the session</h2><details><summary>${plural(report.sessions.length, "connection")} could be meant</summary><div class="scroll" tabindex="0" role="region" aria-label="Connections"><table class="list"><thead><tr><th scope="col">Client</th><th scope="col" class="number">Descriptor</th><th scope="col" class="number">Received, ms ago</th><th scope="col" class="number">Sent, ms ago</th><th scope="col" class="number">Unread bytes</th><th scope="col" class="number">Reach</th></tr></thead><tbody>${rows}</tbody></table></div></details></section>`;
}

function registers({ report }: FaultRecord): Html {
  if (report === null) return nothing;
  const names = registerNames[report.architecture];
  return html`<section aria-labelledby="registers"><h2 id="registers">Registers</h2><dl class="registers">${names.map(
    (name, index) => html`<div><dt>${name}</dt><dd><code>${hex64(report.registers[index] ?? null)}</code></dd></div>`,
  )}</dl></section>`;
}

const replay = (record: FaultRecord): Html =>
  html`<section aria-labelledby="replay"><h2 id="replay">Look closer</h2><p>The same decision, made again from the record, with its reasons:</p><pre tabindex="0"><code>holdfast replay ${record.id}</code></pre><p>As a file to take elsewhere:</p><pre tabindex="0"><code>holdfast show ${record.id} --export fault.json</code></pre></section>`;
