// SPDX-License-Identifier: Apache-2.0
/**
 * The pages about the box in its fleet, its checkpoints and its system. What is not there is said, with its reason.
 */
import type { MetricName, MetricSample } from "#metrics.ts";
import type { ReadModel } from "../model/readModel.ts";
import type { View } from "../page.ts";
import type { BootTold } from "../told.ts";
import { badge } from "./badge.ts";
import { ago, bytes, duration, plural, when } from "./format.ts";
import { type Html, html, nothing, type Part } from "./html.ts";
import { missing, orDash, type Pair, pairs } from "./pairs.ts";
import { slotsPart } from "./slots.ts";

const dayMs = 24 * 3_600_000;
/** The uplink raises its alarm at the same time. */
const certificateWarnDays = 30;

export function fleetPage({ told, nowMs }: View): Html {
  const { uplink } = told;
  if (!uplink.known)
    return html`<h1>Fleet</h1><div data-part="fleet">${missing(uplink)}<p>Nothing is sent anywhere, and nothing here needs it.</p></div>`;
  const { broker, connected, sinceMs, why, lastAckMs, waitingMessages, oldestMs, droppedRows, certificateEndsMs } =
    uplink.value;
  return html`<h1>Fleet</h1><div data-part="fleet">${pairs([
    ["Broker", broker],
    [
      "Connection",
      html`${connected ? badge("good", "connected") : badge("warn", "not connected")} for ${duration(nowMs - sinceMs)}${why === null ? "" : `: ${why}`}`,
    ],
    ["Client certificate", certificateWords(certificateEndsMs, nowMs)],
    ["Last acknowledgement", orDash(lastAckMs, (at) => ago(at, nowMs))],
    ["Waiting", plural(waitingMessages, "message")],
    ["Oldest waiting", orDash(oldestMs, (at) => ago(at, nowMs))],
    ["Dropped", plural(droppedRows, "message")],
  ])}<h2>Rescue records of other boxes</h2>${herd(told.metrics)}</div>`;
}

function certificateWords(endsMs: number | null, nowMs: number): Part {
  if (endsMs === null) return "none: this box shows the broker no certificate";
  const days = Math.floor((endsMs - nowMs) / dayMs);
  const date = when(endsMs);
  if (days < 0) return html`${badge("bad", "ended")} ${date}`;
  return html`${badge(days < certificateWarnDays ? "warn" : "good", `${plural(days, "day")} left`)} until ${date}`;
}

/** What the fleet taught this box: held, used with which outcome, and not used for which reason. */
function herd(metrics: readonly MetricSample[]): Html {
  const held = figureOf(metrics, "herd_records");
  if (held === null) return html`<p class="empty">Not available: this box takes no part in it.</p>`;
  const by = (name: MetricName): string => {
    const parts = metrics.flatMap((sample) =>
      sample.name === name && sample.kind === "value" && sample.value > 0
        ? [`${sample.value} ${sample.labels[0]}`]
        : [],
    );
    return parts.length === 0 ? "none" : parts.join(", ");
  };
  const facts: Pair[] = [
    ["Held", String(held)],
    ["Used, by outcome", by("herd_used_total")],
    ["Not used, by reason", by("herd_ignored_total")],
    ["Given to the fleet", String(figureOf(metrics, "herd_published_total") ?? 0)],
  ];
  return pairs(facts);
}

function figureOf(metrics: readonly MetricSample[], name: MetricName): number | null {
  const found = metrics.find((sample) => sample.name === name);
  return found?.kind === "value" ? found.value : null;
}

export function checkpointsPage({ told, nowMs }: View): Html {
  const { checkpoints } = told;
  if (!checkpoints.known) return html`<h1>Checkpoints</h1><div data-part="checkpoints">${missing(checkpoints)}</div>`;
  const rows = checkpoints.value.map(
    ({ guest, id, atMs, bytes: size, good }) =>
      html`<tr><th scope="row">${guest}<span class="soft wide"><code>${id}</code></span></th><td>${ago(atMs, nowMs)}</td><td class="number wide">${bytes(size)}</td><td>${good ? badge("good", "good") : badge("warn", "not proven")}</td></tr>`,
  );
  const table =
    rows.length === 0
      ? html`<p class="empty">No checkpoint has been taken yet.</p>`
      : html`<table class="list"><thead><tr><th scope="col">Guest</th><th scope="col">Taken</th><th scope="col" class="number wide">Size</th><th scope="col">State</th></tr></thead><tbody>${rows}</tbody></table>`;
  return html`<h1>Checkpoints</h1><div data-part="checkpoints">${table}</div>`;
}

export function systemPage(view: View, record: ReadModel): Html {
  const { told, nowMs } = view;
  const { storage, updateLock } = told;
  const warnings = told.warnings.slice(-20).reverse();
  const lock = updateLock.known
    ? updateLock.value === ""
      ? "none: an update may be installed"
      : updateLock.value
    : `not available: ${updateLock.why}`;
  return html`<h1>System</h1><div data-part="system">${pairs([
    ["Box", told.box],
    ["Version", `${told.version} on ${told.runtime}`],
    ["Supervisor", html`process ${told.pid}, holdfast ${told.mode}, for ${duration(nowMs - told.startedMs)}`],
    ["Record", storage.kind === "normal" ? badge("good", "recording") : badge("warn", storage.kind)],
    ["About the record", storage.why === "" ? "nothing amiss" : storage.why],
    ["Written today", bytes(storage.bytesToday)],
    ["Newest row", `${record.cursor}${record.whole ? "" : ", still reading"}`],
    ["Updates held back by", lock],
  ])}${slotsPart(view)}<h2>Boots</h2>${boots(told.boots)}<h2>Warnings</h2>${
    warnings.length === 0
      ? html`<p class="empty">None since the supervisor started.</p>`
      : html`<ul class="why">${warnings.map(({ atMs, workload, text }) => html`<li>${when(atMs)} <strong>${workload}</strong>: ${text}</li>`)}</ul>`
  }</div>`;
}

function boots(all: readonly BootTold[]): Html {
  if (all.length === 0)
    return html`<p class="empty">None is on record: <code>holdfast run</code> keeps a book of them.</p>`;
  return html`<table class="list"><caption class="unseen">Boots of this box, newest first</caption><thead><tr><th scope="col">Time</th><th scope="col">Reason</th><th scope="col" class="wide">Why</th></tr></thead><tbody>${all
    .toReversed()
    .map(
      ({ atMs, reason, why }) =>
        html`<tr><td class="time">${when(atMs)}</td><th scope="row">${bootBadges[reason] ?? nothing}${bootWords[reason] ?? reason}</th><td class="wide">${why}</td></tr>`,
    )}</tbody></table>`;
}

const bootWords: Readonly<Record<string, string>> = {
  update: "update",
  operator: "asked for",
  factoryReset: "factory reset",
  watchdog: "hardware watchdog",
  panic: "kernel panic",
  board: "reset by the board",
  powerLost: "power lost",
  orderly: "in order",
  first: "first on record",
};
const bootBadges: Readonly<Record<string, Html>> = {
  watchdog: html`${badge("bad", "fault")} `,
  panic: html`${badge("bad", "fault")} `,
  board: html`${badge("warn", "look")} `,
  powerLost: html`${badge("note", "abrupt")} `,
};
