// SPDX-License-Identifier: Apache-2.0
/**
 * Threads with a connection of their own that are blocked somewhere else than where they wait for work: on a lock, a condition,
 * a disk. Gets a process, such threads and their spines; gives a name for each wait, which it has for as long as it lasts, and
 * how many threads have work. Stops nothing. Limit: `threadsMax` a look.
 */
import { readBlocked, readStatus } from "./processes.ts";
import type { Spines } from "./spines.ts";

const threadsMax = 32;

export type HeldUp = { readonly waits: readonly string[]; readonly working: number };

export function heldUp(pid: number, threads: readonly number[], spines: Spines): HeldUp {
  const waits: string[] = [];
  let working = 0;
  for (const tid of threads.slice(0, threadsMax)) {
    const blocked = readBlocked(pid, tid);
    if (blocked !== null && spines.isIdle(tid, blocked)) continue;
    working += 1;
    if (blocked === null) continue;
    const switches = readStatus(pid, tid)?.voluntarySwitches ?? 0;
    waits.push(`${tid} ${blocked.sp} ${blocked.pc} ${switches}`);
  }
  return { waits, working };
}
