// SPDX-License-Identifier: Apache-2.0
/**
 * Whether a program that has ended lives on as another process: it went to the background, as daemons do by default.
 * Gets what was known of it while it ran; gives the process id of its successor, or null.
 *
 * A successor runs the same file, began during the program's short life, has left our session, hangs on one of our ancestors,
 * because the process that started it is gone, and is nobody else's yet. Where several could be meant, none is: to guard
 * a stranger would be worse. Limit: `lifeMaxTicks`. Source: proc(5), `stat`; daemon(7).
 */
import { readdirSync, readFileSync } from "node:fs";
import { readExecutable, readStartTicks, readStatus } from "#monitor/processes.ts";

export type Portrait = { readonly pid: number; readonly executable: string | null; readonly startTicks: number };

type Process = { readonly pid: number; readonly parent: number; readonly session: number; readonly startTicks: number };

const ancestorsMax = 64;
/** What goes to the background does so soon (proc(5): ticks of a hundredth of a second). */
const lifeMaxTicks = 6000;

/**
 * What is needed to recognise a successor later. `started`: the file that was started, for a program that has ended so
 * soon that its own can no longer be read.
 */
export function portrayProgram(pid: number, started: string | null = null): Portrait | null {
  const startTicks = readStartTicks(pid);
  return startTicks === null ? null : { pid, executable: readExecutable(pid) ?? started, startTicks };
}

export function findSuccessor({ pid, executable, startTicks }: Portrait): number | null {
  if (executable === null) return null;
  const ours = readProcess(process.pid);
  const ancestors = ancestorsOf(process.pid);
  const successors = readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name) && Number(name) !== pid)
    .map((name) => readProcess(Number(name)))
    .filter((other) => other !== null)
    .filter((other) => other.startTicks >= startTicks && ancestors.has(other.parent) && other.session !== ours?.session)
    .filter((other) => other.startTicks <= startTicks + lifeMaxTicks)
    .filter((other) => readExecutable(other.pid) === executable && readStatus(other.pid)?.tracerPid === 0);
  return successors.length === 1 ? successors[0]!.pid : null;
}

/** Whether the program has lived so shortly that its end may be that of a starter. */
export const wasShort = ({ startTicks }: Portrait): boolean => uptimeTicks() - startTicks <= lifeMaxTicks;

const uptimeTicks = (): number => Number(readFileSync("/proc/uptime", "latin1").split(" ")[0]) * 100;

function ancestorsOf(pid: number): Set<number> {
  const ancestors = new Set([1]);
  let next = readProcess(pid)?.parent ?? 0;
  for (let depth = 0; next > 1 && depth < ancestorsMax; depth += 1) {
    ancestors.add(next);
    next = readProcess(next)?.parent ?? 0;
  }
  return ancestors;
}

function readProcess(pid: number): Process | null {
  let text: string;
  try {
    text = readFileSync(`/proc/${pid}/stat`, "latin1");
  } catch {
    return null; // Gone meanwhile.
  }
  // The name may hold spaces and brackets, so fields are counted from the last bracket: state, parent, group, session.
  const fields = text.slice(text.lastIndexOf(")") + 2).split(" ");
  if (fields[0] === "Z") return null;
  return { pid, parent: Number(fields[1]), session: Number(fields[3]), startTicks: Number(fields[19]) };
}
