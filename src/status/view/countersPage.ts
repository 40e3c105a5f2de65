// SPDX-License-Identifier: Apache-2.0
/**
 * What the processor and the kernel count while workloads run: a table a workload, live. Gets the view; gives HTML. What
 * cannot be counted is said, with its reason.
 */
import { type CounterRow, type CounterTable, counterTables } from "../model/rates.ts";
import type { View } from "../page.ts";
import { compact, dash, duration, micros, percent, plural } from "./format.ts";
import { type Html, html, nothing } from "./html.ts";
import { missing, type Pair, pairs } from "./pairs.ts";

const words: Readonly<{ [Name in CounterRow["event"]]: string }> = {
  cycles: "cycles",
  instructions: "instructions",
  cache_misses: "cache misses",
  branch_misses: "branch misses",
  stalled_frontend: "cycles without instructions",
  stalled_backend: "cycles without results",
  task_clock: "processor time",
  page_faults: "page faults",
  major_faults: "page faults from disk",
  context_switches: "context switches",
  migrations: "moves to another processor",
  kvm_exits: "exits to the hypervisor",
};

export function countersPage({ told, before }: View): Html {
  const { counters } = told;
  const tables = counterTables(told.monitor, before);
  const about = counters.known
    ? html`<p>${counters.value.kind === "hardware" ? "Counted by the processor itself." : html`Only the kernel's own events can be counted here: ${counters.value.why}.`}</p>`
    : missing(counters);
  const body =
    tables.length > 0
      ? tables.map(tableOf)
      : counters.known
        ? html`<p class="empty">Nothing is counted yet: no workload runs.</p>`
        : nothing;
  return html`<h1>Counters</h1><div data-part="counters">${about}${body}</div>`;
}

function tableOf(table: CounterTable, index: number): Html {
  const id = `counters-${index}`;
  return html`<section aria-labelledby="${id}"><h2 id="${id}">${table.workload}<span class="soft">, ${plural(table.threads, "thread")}</span></h2>${ratios(table)}<table class="list"><caption class="unseen">Counters of ${table.workload}</caption><thead><tr><th scope="col">Event</th><th scope="col" class="number">A second</th><th scope="col" class="number">In all</th><th scope="col" class="number wide">Time on hardware</th></tr></thead><tbody>${table.rows.map(
    rowOf,
  )}</tbody></table>${exits(table)}</section>`;
}

function ratios(table: CounterTable): Html {
  const { instructionsPerCycle, cacheMissesPerThousand, branchMissesPerThousand, processors } = table;
  const known = (value: number | null, digits: number): string => (value === null ? dash : value.toFixed(digits));
  const facts: readonly (readonly [string, string, string])[] = [
    ["Instructions a cycle", known(instructionsPerCycle, 2), "last seconds"],
    ["Cache misses", known(cacheMissesPerThousand, 1), "per 1,000 instructions"],
    ["Branch misses", known(branchMissesPerThousand, 1), "per 1,000 instructions"],
    ["Processors busy", known(processors, 2), "last seconds"],
  ];
  return html`<dl class="facts">${facts.map(
    ([name, value, note]) =>
      html`<div><dt>${name}</dt><dd><span class="figure">${value}</span><span class="soft">${note}</span></dd></div>`,
  )}</dl>`;
}

function rowOf({ event, cluster, total, perSecond, runningRatio }: CounterRow): Html {
  const shown = (value: number | null): string =>
    value === null
      ? dash
      : event === "task_clock" && value > 60e9
        ? duration(value / 1e6)
        : event === "task_clock"
          ? micros(value / 1e3)
          : compact(value);
  return html`<tr><th scope="row">${words[event]}${cluster === "" ? nothing : html`<span class="soft">${cluster}</span>`}</th><td class="number">${shown(perSecond)}</td><td class="number">${shown(total)}</td><td class="number wide">${total === null ? "never" : percent(runningRatio)}</td></tr>`;
}

function exits({ exits: found }: CounterTable): Html {
  if (found.length === 0) return nothing;
  const facts: Pair[] = found.map(([reason, count]) => [reason, compact(count)]);
  return html`<details><summary>Exits of its virtual processors</summary>${pairs(facts)}</details>`;
}
