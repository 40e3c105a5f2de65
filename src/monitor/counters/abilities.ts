// SPDX-License-Identifier: Apache-2.0
/** What can be counted here, in one value: from the plan, and from what the kernel said when a thread was opened. Pure. */
import { type CounterAbilities, type CounterAbility, seen } from "#health.ts";
import type { EventPlan } from "./eventPlan.ts";
import type { Opened } from "./sampler.ts";

/** Before a thread was opened, what is planned counts as possible. */
export function abilitiesOf(plan: EventPlan, opened: readonly Opened[]): CounterAbilities {
  const events = [
    ...plan.groups.flatMap(({ cluster, events, scope }, group) =>
      events.map(({ event }, place): CounterAbility => {
        const state = opened.find((each) => each.group === group && each.place === place)?.state ?? scope;
        return { event, cluster, state: typeof state === "string" ? seen(state) : state };
      }),
    ),
    ...plan.absent.map(({ event, cluster, reason }): CounterAbility => ({ event, cluster, state: reason })),
  ];
  const hardware = events.filter(({ event }) => event === "cycles" || event === "instructions");
  const software = events.filter(({ event }) => event === "task_clock" || event === "page_faults");
  const counts = (some: readonly CounterAbility[]): boolean => some.some(({ state }) => state.kind === "seen");
  const kind = counts(hardware) ? "hardware" : counts(software) ? "software" : "none";
  const refused = (kind === "software" ? hardware : kind === "none" ? software : []).find(
    ({ state }) => state.kind === "absent",
  );
  const reason = refused?.state.kind === "absent" ? refused.state : { why: "", advice: "" };
  return { kind, why: reason.why, advice: reason.advice, events };
}
