// SPDX-License-Identifier: Apache-2.0
/**
 * Events and log lines as lists with filters. Gets lines; gives HTML. Their text is anybody's: it goes through `html`.
 */
import { toJson } from "#bytes.ts";
import type { LogFilter, Logs } from "../model/logs.ts";
import type { EventLine } from "../model/readModel.ts";
import { clip, when } from "./format.ts";
import { type Html, html, nothing } from "./html.ts";

const factsLength = 400;

export function eventsPage(
  events: readonly EventLine[],
  filter: { workload: string; event: string },
  more: number | null,
  _nowMs: number,
): Html {
  const older =
    more === null
      ? nothing
      : html`<p class="more"><a rel="next" href="/events?before=${more}&amp;workload=${encodeURIComponent(filter.workload)}&amp;event=${encodeURIComponent(filter.event)}">Older events</a></p>`;
  const rows = events.map(
    ({ atMs, event, workload, facts }) =>
      html`<tr><td class="time">${when(atMs)}</td><th scope="row">${clip(event, 60)}</th><td>${clip(workload, 60)}</td><td class="wide"><code class="break">${factsText(facts)}</code></td></tr>`,
  );
  const table =
    events.length === 0
      ? html`<p class="empty">No events match.</p>`
      : html`<table class="list"><caption class="unseen">Events, newest first</caption><thead><tr><th scope="col">Time</th><th scope="col">Event</th><th scope="col">Workload</th><th scope="col" class="wide">Facts</th></tr></thead><tbody>${rows}</tbody></table>`;
  return html`<h1>Events</h1><form class="filter" method="get" action="/events"><label>Workload <input name="workload" value="${filter.workload}" maxlength="128" autocapitalize="off"></label><label>Event begins with <input name="event" value="${filter.event}" maxlength="128" autocapitalize="off"></label><button type="submit">Show</button></form><div data-part="events">${table}${older}</div>`;
}

function factsText(facts: unknown): string {
  if (typeof facts !== "object" || facts === null) return "";
  const pairs = Object.entries(facts).map(
    ([name, value]) => `${name}=${typeof value === "string" ? value : toJson(value)}`,
  );
  return clip(pairs.join(" "), factsLength);
}

const levels = ["emergency", "alert", "critical", "error", "warning", "notice", "info", "debug"];

export function logsPage(logs: Logs, filter: LogFilter): Html {
  const since = String(filter.sinceMs / 60_000);
  const choice = (value: string, word: string): Html =>
    html`<option value="${value}"${value === since ? html` selected` : nothing}>${word}</option>`;
  const form = html`<form class="filter" method="get" action="/logs"><label>Unit <input name="unit" value="${filter.unit}" maxlength="128" placeholder="holdfast" autocapitalize="off"></label><label>Since <select name="since">${choice("10", "10 minutes")}${choice("60", "1 hour")}${choice("1440", "24 hours")}${choice("10080", "7 days")}</select></label><label>Level <select name="level">${levels.map(
    (word, level) =>
      html`<option value="${level}"${level === filter.level ? html` selected` : nothing}>${word}</option>`,
  )}</select></label><label>Text <input name="text" value="${filter.text}" maxlength="128"></label><button type="submit">Show</button></form>`;
  if (!logs.known)
    return html`<h1>Logs</h1>${form}<p class="empty">Not available: ${logs.why}.</p><p>What Holdfast itself did is among the <a href="/events">events</a>.</p>`;
  const lines = logs.lines.map(
    (line) =>
      html`<li class="${line.level <= 3 ? "bad" : line.level === 4 ? "warn" : ""}">${when(line.atMs)} <span class="level">${levels[line.level] ?? ""}</span> <span class="soft">${line.unit}</span> ${line.text}</li>`,
  );
  return html`<h1>Logs</h1>${form}<p class="soft">Secrets are taken out of what is shown. Newest first, ${logs.lines.length} lines.</p>${
    logs.lines.length === 0
      ? html`<p class="empty">No lines match.</p>`
      : html`<ol class="log" role="log" aria-label="Log lines" tabindex="0">${lines}</ol>`
  }`;
}
