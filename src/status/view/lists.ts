// SPDX-License-Identifier: Apache-2.0
/**
 * Events and log lines as lists with filters. Gets lines; gives HTML. Their text is anybody's: it goes through `html`.
 */
import { toJson } from "#bytes.ts";
import { type LogFilter, type Logs, logLevels } from "../model/logs.ts";
import type { EventLine } from "../model/readModel.ts";
import { limits } from "../settings.ts";
import { clip, when } from "./format.ts";
import { type Html, html, nothing } from "./html.ts";

const factsLength = 400;
const minuteMs = 60_000;

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

const spans = { "10": "10 minutes", "60": "1 hour", "1440": "24 hours", "10080": "7 days" } as const;

/** `follow`: it refreshes itself; `file`: where the same lines are as a file. */
export function logsPage(
  logs: Logs,
  filter: LogFilter,
  more: { readonly follow: boolean; readonly file: string },
): Html {
  const form = logForm(filter, more.follow);
  if (!logs.known)
    return html`<h1>Logs</h1>${form}<p class="empty">Not available: ${logs.why}.</p><p>What Holdfast itself did is among the <a href="/events">events</a>.</p>`;
  const lines = logs.lines.map(
    (line) =>
      html`<li class="${line.level <= 3 ? "bad" : line.level === 4 ? "warn" : ""}">${when(line.atMs)} <span class="level">${logLevels[line.level] ?? ""}</span> <span class="soft">${line.unit}</span> ${line.text}</li>`,
  );
  return html`<h1>Logs</h1>${form}<p class="soft">Secrets are taken out of what is shown. Newest first, at most ${limits.logLinesMax} lines. <a href="${more.file}">Download them</a></p><div data-part="logs">${
    logs.lines.length === 0
      ? html`<p class="empty">No lines match.</p>`
      : html`<ol class="log" role="log" aria-label="Log lines" tabindex="0">${lines}</ol>`
  }</div>`;
}

function logForm(filter: LogFilter, follow: boolean): Html {
  const choice = (value: string, word: string, chosen: string): Html =>
    html`<option value="${value}"${value === chosen ? html` selected` : nothing}>${word}</option>`;
  const [since, until] = [String(filter.sinceMs / minuteMs), String(filter.untilMs / minuteMs)];
  const entries = Object.entries(spans);
  return html`<form class="filter" method="get" action="/logs"><label>Unit <input name="unit" value="${filter.unit}" maxlength="128" placeholder="holdfast, or kernel" autocapitalize="off"></label><label>Since <select name="since">${entries.map(([value, word]) => choice(value, word, since))}</select></label><label>Until <select name="until">${choice("0", "now", until)}${entries.slice(0, -1).map(([value, word]) => choice(value, `${word} ago`, until))}</select></label><label>Level <select name="level">${logLevels.map((word, level) => choice(String(level), word, String(filter.level)))}</select></label><label>Text <input name="text" value="${filter.text}" maxlength="128"></label><label class="check"><input type="checkbox" name="follow" value="yes"${follow ? html` checked` : nothing}> Follow</label><button type="submit">Show</button></form>`;
}
