// SPDX-License-Identifier: Apache-2.0
/**
 * The pages about the box: host, counters, fleet, checkpoints, system. What is not there is said, with its reason.
 */
import type { HostFacts } from "../model/host.ts";
import type { ReadModel } from "../model/readModel.ts";
import type { View } from "../page.ts";
import type { Known } from "../told.ts";
import { badge } from "./badge.ts";
import { ago, bytes, dash, duration, percent, plural, when } from "./format.ts";
import { type Html, html, type Part } from "./html.ts";

type Pair = readonly [name: string, value: Part];

const pairs = (facts: readonly Pair[]): Html =>
  html`<dl class="pairs">${facts.map(([name, value]) => html`<dt>${name}</dt><dd>${value}</dd>`)}</dl>`;
const missing = (known: Known<unknown>): Html =>
  html`<p class="empty">Not available: ${known.known ? "" : known.why}.</p>`;
const orDash = <Value>(value: Value | null, show: (value: Value) => Part): Part =>
  value === null ? dash : show(value);

/** A share as a bar and as words. */
function meter(share: number, words: string): Html {
  const filled = Math.max(0, Math.min(1, share)) * 100;
  return html`<span class="meter"><svg viewBox="0 0 100 6" preserveAspectRatio="none" aria-hidden="true" focusable="false"><rect class="rail" width="100" height="6" rx="3"/><rect class="fill" width="${filled.toFixed(1)}" height="6" rx="3"/></svg><span>${words}</span></span>`;
}

export function hostPage({ host }: View): Html {
  const pressure = (share: number | null): Part =>
    share === null ? "not offered by this kernel" : meter(share, `${percent(share)} of the last 10 s something waited`);
  const facts: Pair[] = [
    ["Processors", `${host.cpus}`],
    ["Load", orDash(host.load, (load) => `${load.join(", ")} (1, 5, 15 minutes)`)],
    ["Waiting for processors", pressure(host.pressure.cpu)],
    ["Waiting for memory", pressure(host.pressure.memory)],
    ["Waiting for disks", pressure(host.pressure.io)],
    ["Memory", shareOf(host.memoryBytes, host.memoryAvailableBytes)],
    ["Disk of the record", shareOf(host.diskBytes, host.diskFreeBytes)],
    ["Up for", orDash(host.upSeconds, (seconds) => duration(seconds * 1_000))],
    ["Kernel", host.kernel || dash],
    ["Clock kept by a time service", orDash(host.clockSynchronised, (kept) => (kept ? "yes" : "no"))],
  ];
  return html`<h1>Host</h1><div data-part="host">${pairs(facts)}<h2>Temperature</h2>${heat(host)}<h2>Holdfast itself</h2>${pairs(
    [
      ["Memory", orDash(host.ownBytes, bytes)],
      ["Open descriptors", orDash(host.ownDescriptors, String)],
    ],
  )}</div>`;
}

function shareOf(all: number | null, free: number | null): Part {
  if (all === null || free === null || all === 0) return dash;
  return meter(1 - free / all, `${bytes(free)} free of ${bytes(all)}`);
}

function heat({ temperatures }: HostFacts): Html {
  if (temperatures.length === 0)
    return html`<p class="empty">Not available: this machine offers no temperature sensor.</p>`;
  return pairs(temperatures.map(({ zone, celsius }) => [zone, `${celsius.toFixed(1)} °C`]));
}

export function countersPage({ told }: View): Html {
  const { counters } = told;
  return html`<h1>Counters</h1><p>What the processor counts while workloads run: instructions, cycles, misses.</p><div data-part="counters">${
    counters.known
      ? pairs([
          ["Kind", counters.value.kind],
          ["Why", counters.value.why],
        ])
      : missing(counters)
  }</div>`;
}

export function fleetPage({ told, nowMs }: View): Html {
  const { uplink } = told;
  if (!uplink.known)
    return html`<h1>Fleet</h1><div data-part="fleet">${missing(uplink)}<p>Nothing is sent anywhere, and nothing here needs it.</p></div>`;
  const { broker, connected, sinceMs, why, lastAckMs, waitingMessages, oldestMs, droppedRows } = uplink.value;
  return html`<h1>Fleet</h1><div data-part="fleet">${pairs([
    ["Broker", broker],
    [
      "Connection",
      html`${connected ? badge("good", "connected") : badge("warn", "not connected")} ${ago(sinceMs, nowMs)}${why === null ? "" : `: ${why}`}`,
    ],
    ["Last acknowledgement", orDash(lastAckMs, (at) => ago(at, nowMs))],
    ["Waiting", plural(waitingMessages, "message")],
    ["Oldest waiting", orDash(oldestMs, (at) => ago(at, nowMs))],
    ["Dropped", plural(droppedRows, "message")],
  ])}</div>`;
}

export function checkpointsPage({ told, nowMs }: View): Html {
  const { checkpoints } = told;
  if (!checkpoints.known) return html`<h1>Checkpoints</h1><div data-part="checkpoints">${missing(checkpoints)}</div>`;
  const rows = checkpoints.value.map(
    ({ guest, id, atMs, bytes: size, good }) =>
      html`<tr><th scope="row">${guest}</th><td><code>${id}</code></td><td>${ago(atMs, nowMs)}</td><td class="number">${bytes(size)}</td><td>${good ? badge("good", "good") : badge("warn", "not proven")}</td></tr>`,
  );
  const table =
    rows.length === 0
      ? html`<p class="empty">No checkpoint has been taken yet.</p>`
      : html`<table class="list"><thead><tr><th scope="col">Guest</th><th scope="col">Checkpoint</th><th scope="col">Taken</th><th scope="col" class="number">Size</th><th scope="col">State</th></tr></thead><tbody>${rows}</tbody></table>`;
  return html`<h1>Checkpoints</h1><div data-part="checkpoints">${table}</div>`;
}

export function systemPage({ told, nowMs }: View, record: ReadModel): Html {
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
  ])}<h2>Warnings</h2>${
    warnings.length === 0
      ? html`<p class="empty">None since the supervisor started.</p>`
      : html`<ul class="why">${warnings.map(({ atMs, workload, text }) => html`<li>${when(atMs)} <strong>${workload}</strong>: ${text}</li>`)}</ul>`
  }</div>`;
}
