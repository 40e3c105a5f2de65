// SPDX-License-Identifier: Apache-2.0
/**
 * The machine: load, pressure, memory, heat, disk, flash, clock, links, and our own footprint. Gets the view; gives HTML.
 * What this machine does not offer is said, with the reason where the monitor knows one.
 */
import type { HostHealth, Seen } from "#health.ts";
import type { HostFacts } from "../model/host.ts";
import { busyShare } from "../model/rates.ts";
import type { View } from "../page.ts";
import { badge } from "./badge.ts";
import { bytes, compact, dash, duration, percent, plural } from "./format.ts";
import { type Html, html, type Part } from "./html.ts";
import { meter, orDash, type Pair, pairs } from "./pairs.ts";

const linksMax = 16;

export function hostPage({ host, told, before }: View): Html {
  const seen = told.monitor?.host ?? null;
  const busy = busyShare(seen, told.monitor?.hostBefore ?? before?.host ?? null);
  const pressure = (share: number | null): Part =>
    share === null ? "not offered by this kernel" : meter(share, `${percent(share)} of the last 10 s something waited`);
  const facts: Pair[] = [
    [
      "Processors",
      busy === null
        ? String(host.cpus)
        : meter(busy, `${percent(busy)} of ${plural(seen?.processors ?? host.cpus, "processor")} busy`),
    ],
    ["Load", orDash(host.load, (load) => `${load.join(", ")} (1, 5, 15 minutes)`)],
    ["Waiting for processors", pressure(host.pressure.cpu)],
    ["Waiting for memory", pressure(host.pressure.memory)],
    ["Waiting for disks", pressure(host.pressure.io)],
    ["Memory", shareOf(host.memoryBytes, host.memoryAvailableBytes)],
    ["Disk of the record", shareOf(host.diskBytes, host.diskFreeBytes)],
    ["Flash life", seen === null ? dash : orWhy(seen.flash, flashWords)],
    ["Clock", seen === null ? dash : orWhy(seen.clock, clockWords)],
    ["Up for", orDash(host.upSeconds, (seconds) => duration(seconds * 1_000))],
    ["Kernel", host.kernel || dash],
  ];
  return html`<h1>Host</h1><div data-part="host">${pairs(facts)}<h2>Heat</h2>${heat(host, seen)}<h2>Network</h2>${links(seen)}<h2>Holdfast itself</h2>${pairs(
    [
      ["Memory", orDash(host.ownBytes, bytes)],
      ["Open descriptors", orDash(host.ownDescriptors, String)],
    ],
  )}</div>`;
}

function orWhy<Value>(seen: Seen<Value>, show: (value: Value) => Part): Part {
  if (seen.kind === "seen") return show(seen.value);
  return html`<span class="soft">not available: ${seen.why}${seen.advice === "" ? "" : `; ${seen.advice}`}</span>`;
}

function shareOf(all: number | null, free: number | null): Part {
  if (all === null || free === null || all === 0) return dash;
  return meter(1 - free / all, `${bytes(free)} free of ${bytes(all)}`);
}

type ValueIn<Name extends keyof HostHealth> = HostHealth[Name] extends Seen<infer Value> ? Value : never;

function flashWords(devices: ValueIn<"flash">): Part {
  if (devices.length === 0) return "no flash that tells its age";
  return devices.map(({ device, usedRatio, spare }) =>
    meter(usedRatio, `${device}: ${percent(usedRatio)} used${spare === "unknown" ? "" : `, spare blocks ${spare}`}`),
  );
}

function clockWords({ synced, offsetSeconds, errorSecondsMax }: ValueIn<"clock">): Part {
  const error = errorSecondsMax > 0 ? `, right within ${(errorSecondsMax * 1_000).toFixed(0)} ms` : "";
  if (!synced) return html`${badge("note", "not kept by a time service")}`;
  return html`${badge("good", "synchronised")} offset ${(offsetSeconds * 1_000).toFixed(2)} ms${error}`;
}

function heat({ temperatures }: HostFacts, seen: HostHealth | null): Html {
  const zones: Pair[] = temperatures.map(({ zone, celsius }) => [zone, `${celsius.toFixed(1)} °C`]);
  const throttled: Pair[] =
    seen === null || seen.throttling.kind === "absent"
      ? []
      : [["Slowed for heat", throttleWords(seen.throttling.value)]];
  if (zones.length + throttled.length === 0)
    return html`<p class="empty">Not available: this machine offers no temperature sensor.</p>`;
  return pairs([...zones, ...throttled]);
}

function throttleWords({ times, cooling }: ValueIn<"throttling">): Part {
  const now = cooling
    .filter(({ state }) => state > 0)
    .map(({ device, state, stateMax }) => `${device} ${state}/${stateMax}`);
  const since = times === null ? "not counted by this processor" : times === 0 ? "never" : plural(times, "time");
  return now.length === 0 ? since : `${since}; cooling now: ${now.join(", ")}`;
}

function links(seen: HostHealth | null): Html {
  const all = (seen?.links ?? []).filter(({ name }) => name !== "lo").slice(0, linksMax);
  if (all.length === 0) return html`<p class="empty">No network link is seen.</p>`;
  return html`<table class="list"><caption class="unseen">Network links</caption><thead><tr><th scope="col">Link</th><th scope="col">State</th><th scope="col" class="number">Received</th><th scope="col" class="number">Sent</th><th scope="col" class="number wide">Errors and drops</th></tr></thead><tbody>${all.map(
    ({ name, up, megabitsPerSecond, receivedBytes, sentBytes, errors, dropped }) =>
      html`<tr><th scope="row">${name}${megabitsPerSecond === null ? "" : html`<span class="soft">${megabitsPerSecond} Mbit/s</span>`}</th><td>${up ? badge("good", "up") : badge("dim", "down")}</td><td class="number">${bytes(receivedBytes)}</td><td class="number">${bytes(sentBytes)}</td><td class="number wide">${compact(errors + dropped)}</td></tr>`,
  )}</tbody></table>`;
}
