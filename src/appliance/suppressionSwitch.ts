// SPDX-License-Identifier: Apache-2.0
/**
 * Where suppression is switched off for a while, by a person or a fleet. Gets orders; tells the policy of a workload as it
 * is now. Off means that a fatal signal goes to the program as if nobody watched. On again with the next supervisor.
 */
import type { Clock } from "#clock.ts";
import { defaultPolicy, type Policy } from "#suppression/plan.ts";

const all = "";
const forEver = Number.POSITIVE_INFINITY;
export type PolicyRung = Policy["rungs"] extends ReadonlySet<infer Name> ? Name : never;

export class SuppressionSwitch {
  /** Until when it is off, by workload; "" stands for all of them. Monotonic ns. */
  readonly #offUntilNs = new Map<string, number>();
  /** Rungs that are not to be used anywhere. */
  rungsOff: ReadonlySet<PolicyRung> = new Set();

  constructor(private readonly clock: Clock) {}

  /** null: every workload; without a time, until it is switched on. */
  off(workload: string | null, forMs?: number): void {
    const untilNs = forMs === undefined ? forEver : this.clock.monotonicNs() + forMs * 1e6;
    this.#offUntilNs.set(workload ?? all, untilNs);
  }

  on(workload: string | null): void {
    if (workload === null) this.#offUntilNs.clear();
    else this.#offUntilNs.delete(workload);
  }

  isOff(workload: string): boolean {
    const nowNs = this.clock.monotonicNs();
    return [all, workload].some((name) => (this.#offUntilNs.get(name) ?? 0) > nowNs);
  }

  /** The policy that holds now. From memory: asked while a thread is stopped. */
  policyOf(workload: string, usual: Policy): Policy {
    if (this.isOff(workload)) return { ...usual, rungs: new Set() };
    if (this.rungsOff.size === 0) return usual;
    return { ...usual, rungs: new Set([...usual.rungs].filter((rung) => !this.rungsOff.has(rung))) };
  }
}

export const policyRungs: readonly PolicyRung[] = [...defaultPolicy.rungs];
