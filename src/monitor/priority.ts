// SPDX-License-Identifier: Apache-2.0
/**
 * Puts the supervisor and its stub before the load: a stopped thread must not wait until the load that stopped it leaves
 * us a processor. Gets a pid; raises its priority where that is allowed, and says nothing otherwise.
 *
 * Niceness counts inside a session only where the kernel groups processes by session (autogroup), so a session leader's
 * group is raised too; a session that we share with others is left as it is. Source: sched(7), "The autogroup feature".
 */
import { readFileSync, writeFileSync } from "node:fs";
import { getPriority, setPriority } from "node:os";
import type { Log } from "#log.ts";

/** Before ordinary programs, behind what an administrator put first. */
const supervisorNice = -10;

export function runBeforeTheLoad(pid: number, log: Log): void {
  try {
    if (getPriority(pid) > supervisorNice) setPriority(pid, supervisorNice);
    if (isSessionLeader(pid)) writeFileSync(`/proc/${pid}/autogroup`, `${supervisorNice}`);
  } catch (error) {
    // Only root may, and not every kernel has groups: then stops are longer on a busy machine, and nothing else changes.
    log("debug", "priority.kept", { pid, why: String(error) });
  }
}

/** The session is field 6 of `/proc/PID/stat`, the fourth after the name. */
function isSessionLeader(pid: number): boolean {
  const stat = readFileSync(`/proc/${pid}/stat`, "latin1");
  return Number(stat.slice(stat.lastIndexOf(")") + 2).split(" ")[3]) === pid;
}
