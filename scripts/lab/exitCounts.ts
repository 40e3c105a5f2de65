// SPDX-License-Identifier: Apache-2.0
/**
 * Whether the exits of a running guest's virtual processors are counted: by the kernel's tracepoint and by KVM's own statistics.
 * Gets the status page and the guest's name; gives by how much each count rose in `countedMs`.
 */
import { systemClock } from "#clock.ts";
import { LabError } from "./labError.ts";

const countedMs = 10_000;
/** The sampler looks once a second, and a guest that has just come up was not looked at yet. */
const [looksMax, lookMs] = [60, 1_000];

/** @throws LabError where one of the two does not rise */
export async function countExits(page: string, workload: string): Promise<Readonly<Record<string, number>>> {
  let before = await exitsNow(page, workload);
  for (let look = 0; look < looksMax && Object.keys(before).length === 0; look += 1) {
    await systemClock.sleep(lookMs);
    before = await exitsNow(page, workload);
  }
  await systemClock.sleep(countedMs);
  const after = await exitsNow(page, workload);
  const rises = Object.entries(after).map(([name, total]) => [name, total - (before[name] ?? total)] as const);
  const risen = Object.fromEntries(rises.filter(([, rise]) => rise > 0));
  for (const name of ["kvm_exits", "exits"]) {
    if (risen[name] !== undefined) continue;
    throw new LabError("lab.machine", `${name} stands still: ${JSON.stringify({ before, after })}`);
  }
  return risen;
}

/** Totals by name; `kvm_exits` is what the tracepoint has counted. */
async function exitsNow(page: string, workload: string): Promise<Readonly<Record<string, number>>> {
  const text = await (await fetch(`http://${page}/metrics`)).text();
  const lines = text.matchAll(/^holdfast_(?:guest_exits|counter_events)_total\{workload="(\w+)",\w+="(\w+)"\} (\d+)/gm);
  const totals = [...lines].flatMap(([, of, name, total]) =>
    of === workload ? [[name!, Number(total)] as const] : [],
  );
  return Object.fromEntries(totals.filter(([name]) => /(^|_)exits?($|_)/.test(name)));
}
