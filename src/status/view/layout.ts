// SPDX-License-Identifier: Apache-2.0
/**
 * The frame around every page: title, skip link, bar, navigation, live state, foot. Gets a page; gives a document.
 *
 * It works without script; the script makes it live. Nothing comes from another host. The title begins with the headline.
 */
import type { Headline } from "../model/issues.ts";
import { healthTones, shape } from "./badge.ts";
import { duration } from "./format.ts";
import { type Html, html, nothing } from "./html.ts";

export type Viewer = { readonly name: string; readonly role: string; readonly csrf: string };

export type Frame = {
  readonly box: string;
  readonly version: string;
  /** null before a login: what the box is like is nobody's business. */
  readonly headline: Headline | null;
  readonly issues: number;
  readonly viewer: Viewer | null;
  readonly path: string;
  readonly nowMs: number;
  readonly cursor: number;
  /** Of the style sheet and the script, so that a new version is never mixed with an old one. */
  readonly assets: string;
  readonly theme: "auto" | "light" | "dark";
  /** A login ends after so long without a request. */
  readonly idleMs: number;
};

export type Page = {
  readonly title: string;
  readonly body: Html;
  readonly live: boolean;
  /** An open page asks for itself again this often, beside what the stream tells it. */
  readonly everyMs: number;
};

const places: readonly (readonly [path: string, name: string])[] = [
  ["/", "Overview"],
  ["/faults", "Faults"],
  ["/history", "History"],
  ["/host", "Host"],
  ["/counters", "Counters"],
  ["/fleet", "Fleet"],
  ["/checkpoints", "Checkpoints"],
  ["/events", "Events"],
  ["/logs", "Logs"],
  ["/system", "System"],
  ["/actions", "Actions"],
];

export function document(frame: Frame, page: Page): string {
  const { headline, viewer, assets, box } = frame;
  const verdict = headline === null ? "" : `${headline.text} · `;
  const live = page.live && viewer !== null ? "yes" : "";
  return html`<!doctype html>
<html lang="en" data-theme="${frame.theme}">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>${verdict}${page.title} · ${box}</title>
<link rel="icon" href="/icon.svg?${assets}" type="image/svg+xml">
<link rel="stylesheet" href="/style.css?${assets}">
<script src="/page.js?${assets}" defer></script>
</head>
<body data-live="${live}" data-every="${page.everyMs}" data-cursor="${frame.cursor}" data-path="${frame.path}" data-idle="${viewer === null ? 0 : frame.idleMs}">
<a class="skip" href="#main">Skip to content</a>
<header class="bar">
<a class="mark" href="/">${logo}<span>Holdfast</span></a>
<span class="box" title="This box">${box}</span>
${viewer === null ? nothing : liveState}
</header>
${viewer === null ? html`<main id="main" class="narrow" tabindex="-1">${page.body}</main>` : shell(frame, page)}
<footer class="foot"><p>Holdfast ${frame.version}${viewer === null ? nothing : html` · <a href="/help">Help</a>`}</p></footer>
</body>
</html>`.text;
}

function shell(frame: Frame, page: Page): Html {
  const { headline, viewer } = frame;
  return html`<div class="shell">
<nav class="nav" aria-label="Pages"><details><summary>Menu</summary></details><ul>${places.map(([path, name]) => {
    const here = path === "/" ? frame.path === "/" : frame.path === path || frame.path.startsWith(`${path}/`);
    return html`<li><a href="${path}"${here ? html` aria-current="page"` : nothing}>${name}</a></li>`;
  })}</ul><div class="who"><a href="/account">${viewer!.name}</a><span class="soft">${viewer!.role}</span></div></nav>
<main id="main" tabindex="-1">
${headline === null ? nothing : verdictLine(headline, frame)}
${page.body}
</main></div>`;
}

function verdictLine(headline: Headline, { nowMs, path }: Frame): Html {
  const tone = healthTones[headline.health];
  const words = html`${shape(tone, path === "/" ? 28 : 18)}<span class="verdict-text">${headline.text}</span> <span class="soft">since ${duration(nowMs - headline.sinceMs)}</span>`;
  const size = path === "/" ? "large" : "small";
  return html`<div class="verdict ${tone} ${size}" id="verdict" role="status" data-part="verdict">${words}</div>`;
}

const liveState = html`<span class="live" id="live" hidden><span id="live-text" role="status"></span><button type="button" id="live-button" class="quiet">Pause</button></span>`;

const logo = html`<svg width="22" height="22" viewBox="0 0 24 24" aria-hidden="true" focusable="false"><path d="M4 4v16M20 4v16M4 12h5l2-5 3 10 2-5h4" fill="none" stroke="currentColor" stroke-width="2.2" stroke-linecap="round" stroke-linejoin="round"/></svg>`;

/** The icon of the browser's tab. */
export const icon = `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 24 24"><rect width="24" height="24" rx="5" fill="#1d3b53"/><path d="M5 5v14M19 5v14M5 12h4l2-4 3 8 2-4h3" fill="none" stroke="#fff" stroke-width="2" stroke-linecap="round" stroke-linejoin="round"/></svg>`;
