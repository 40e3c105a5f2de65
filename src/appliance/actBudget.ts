// SPDX-License-Identifier: Apache-2.0
/**
 * How many acts a program had of late, at each site and in all. Gets each act's site and time; gives counts of the last
 * window. A loop of acts that burns a processor serves nobody: past the budget it ends (policy, `budget`).
 *
 * Counted in tenths of a window, so a count may lack up to a tenth. Limit: `sitesMax` sites a tenth; others count in all.
 */
import type { Spent } from "#fault.ts";
import { defaultPolicy } from "#suppression/plan.ts";

const parts = 10;
const sitesMax = 1024;

type Part = { readonly sinceMs: number; readonly sites: Map<string, number>; all: number };

export class ActBudget {
  #parts: Part[] = [];

  constructor(private readonly windowMs = defaultPolicy.budget.windowMs) {}

  note(site: string, atMs: number): void {
    const part = this.#partAt(atMs);
    part.all += 1;
    const known = part.sites.get(site);
    if (known !== undefined || part.sites.size < sitesMax) part.sites.set(site, (known ?? 0) + 1);
  }

  spent(site: string, atMs: number): Spent {
    const now = this.#parts.filter(({ sinceMs }) => sinceMs > atMs - this.windowMs);
    return {
      site: now.reduce((sum, { sites }) => sum + (sites.get(site) ?? 0), 0),
      program: now.reduce((sum, { all }) => sum + all, 0),
    };
  }

  #partAt(atMs: number): Part {
    const last = this.#parts.at(-1);
    if (last !== undefined && atMs < last.sinceMs + this.windowMs / parts) return last;
    const part: Part = { sinceMs: atMs, sites: new Map(), all: 0 };
    this.#parts = [...this.#parts.filter(({ sinceMs }) => sinceMs > atMs - this.windowMs), part];
    return part;
  }
}
