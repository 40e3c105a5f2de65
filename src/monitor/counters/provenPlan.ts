// SPDX-License-Identifier: Apache-2.0
/**
 * The plan as this kernel lets us carry it out: each group is opened once for our own thread. Gets a plan and a box; gives a
 * plan of whole groups, and for every event that was refused the reason and the setting that would allow it.
 *
 * Where the kernel's part may not be counted, only the thread's own is; events that happen in the kernel alone are then left
 * out, because they would count 0, which is not true.
 */
import type { Box } from "#board/box.ts";
import { PerfGroup } from "#board/native/perfEvents.ts";
import type { EventPlan, PlannedEvent, PlannedGroup } from "./eventPlan.ts";
import { isPermission, needsKernel, refusalOf } from "./refusals.ts";

type Refused = EventPlan["absent"][number];

/** What the kernel says to these events, for our own thread: null where it counts, else an errno. */
export type Trial = (events: readonly PlannedEvent[], userOnly: boolean) => readonly (number | null)[];

export const tryOnOurselves: Trial = (events, userOnly) => {
  using group = PerfGroup.open(0, events, userOnly);
  return group.answers;
};

export function provenPlan(plan: EventPlan, box: Box, trial: Trial = tryOnOurselves): EventPlan {
  const absent: Refused[] = [...plan.absent];
  const groups = plan.groups.flatMap((group) => {
    const [proven, refused] = prove(group, box, trial);
    absent.push(...refused);
    return proven === null ? [] : [proven];
  });
  return { groups, absent };
}

function prove(group: PlannedGroup, box: Box, trial: Trial): readonly [PlannedGroup | null, readonly Refused[]] {
  const { cluster, events } = group;
  const first = trial(events, false);
  const userOnly = first.some((answer) => answer !== null && isPermission(answer));
  const kept = userOnly ? events.filter(({ event }) => !needsKernel.has(event)) : events;
  const answers = userOnly ? trial(kept, true) : first;
  const refused = events.flatMap(({ event }, place): Refused[] => {
    const again = kept.findIndex((each) => each.event === event);
    const errno = again < 0 ? first[place]! : answers[again]!;
    return errno === null ? [] : [{ event, cluster, reason: refusalOf(event, errno, box) }];
  });
  const counted = kept.filter((_, place) => answers[place] === null);
  if (counted.length === 0) return [null, refused];
  return [{ ...group, scope: userOnly ? "user" : "user and kernel", events: counted }, refused];
}
