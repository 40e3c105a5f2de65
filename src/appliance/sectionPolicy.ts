// SPDX-License-Identifier: Apache-2.0
/**
 * The parts of a section of the configuration that say how a program is treated: which rungs, how much of them, and from when
 * on a thread hangs. Gets the section; gives the engine's own types.
 */
import type { BudgetSection, HangSection } from "#config/schema.ts";
import type { HangLimits } from "#monitor/busyStretches.ts";
import { defaultPolicy, type Policy } from "#suppression/plan.ts";

type Treated = { readonly rungsOff: readonly string[]; readonly budget: BudgetSection };

export function policyOf({ rungsOff, budget }: Treated): Policy {
  const off = new Set<string>(rungsOff);
  const { siteActsMax, programActsMax, windowMs, neutralisedMax } = budget;
  return {
    ...defaultPolicy,
    rungs: new Set([...defaultPolicy.rungs].filter((rung) => !off.has(rung))),
    neutralisedMax,
    budget: { siteActsMax, programActsMax, windowMs },
  };
}

/** null: hangs are nobody's business. */
export const hangsOf = ({ hang }: { readonly hang: HangSection }): HangLimits | null => (hang === "off" ? null : hang);
