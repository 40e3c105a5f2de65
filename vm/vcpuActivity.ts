// SPDX-License-Identifier: Apache-2.0
/**
 * What the virtual processors of a guest are doing: each runs as a thread of Cloud Hypervisor, named `vcpuN`.
 *
 * Gets a pid; gives the share of a processor each took over a short look. A guest that hangs with spinning processors is
 * stuck in a loop, one with idle ones waits for something that does not come. Source: Documentation/scheduler/sched-stats.rst of
 * Linux, v53.0.
 */
import { readdirSync, readFileSync } from "node:fs";
import type { Clock } from "#clock.ts";

export const lookMs = 250;
const spinningShare = 0.8;

/** `share`: of the look, how much it ran or wanted to run. */
export type VcpuActivity = { readonly vcpu: number; readonly share: number };

type Look = { readonly ranNs: number; readonly wantsToRun: boolean; readonly timesBlocked: string };

/** Takes `lookMs`. Empty where the process is gone. */
export async function lookAtVcpus(pid: number, clock: Clock): Promise<VcpuActivity[]> {
  const [before, fromNs] = [lookOnce(pid), clock.monotonicNs()];
  await clock.sleep(lookMs);
  const [after, untilNs] = [lookOnce(pid), clock.monotonicNs()];
  return [...after]
    .map(([vcpu, now]) => ({ vcpu, share: shareOf(before.get(vcpu) ?? now, now, untilNs - fromNs) }))
    .sort((a, b) => a.vcpu - b.vcpu);
}

/** On a box so busy that it hardly ran, one that never waited for anything else has spun all the same. */
function shareOf(before: Look, now: Look, elapsedNs: number): number {
  if (before.wantsToRun && now.wantsToRun && before.timesBlocked === now.timesBlocked) return 1;
  return Math.min(1, Math.max(0, (now.ranNs - before.ranNs) / elapsedNs));
}

/** In words, for the record of a hang. */
export function describeVcpus(activity: readonly VcpuActivity[]): string {
  if (activity.length === 0) return "its processors could not be looked at";
  const percent = activity.map(({ share }) => `${Math.round(share * 100)} %`).join(", ");
  const spinning = activity.filter(({ share }) => share >= spinningShare).length;
  if (spinning === activity.length) return `all its processors spin (${percent})`;
  return spinning === 0 ? `its processors are idle (${percent})` : `${spinning} of its processors spin (${percent})`;
}

/** Ran and waited for a processor, ns: on a busy box a spinning thread gets less than it wants. */
function lookOnce(pid: number): Map<number, Look> {
  const found = new Map<number, Look>();
  try {
    for (const tid of readdirSync(`/proc/${pid}/task`)) {
      const read = (file: string): string => readFileSync(`/proc/${pid}/task/${tid}/${file}`, "latin1");
      const vcpu = /^vcpu(\d+)\s*$/.exec(read("comm"))?.[1];
      if (vcpu === undefined) continue;
      const [ranNs, waitedNs] = read("schedstat").split(" ").map(Number);
      const status = read("status");
      const timesBlocked = /^voluntary_ctxt_switches:\s*(\d+)/m.exec(status)?.[1] ?? "";
      found.set(Number(vcpu), { ranNs: ranNs! + waitedNs!, wantsToRun: /^State:\s*R/m.test(status), timesBlocked });
    }
  } catch {
    // The process, or one of its threads, has gone meanwhile: what was read so far is the answer.
  }
  return found;
}
