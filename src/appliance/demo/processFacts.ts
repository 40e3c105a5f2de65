// SPDX-License-Identifier: Apache-2.0
/**
 * What the kernel says of a process, seen from outside: that it is still the same one, and who traces it.
 *
 * Gets a PID; gives numbers, or null where the process is gone. Source: proc(5), `stat` and `status`.
 */
import { readFileSync } from "node:fs";

/** Start time in clock ticks since boot: with the PID it names one process for good. Null where it is gone or a zombie. */
export function startTicksOf(pid: number): number | null {
  const fields = statOf(`/proc/${pid}/stat`);
  return fields === null || fields[0] === "Z" ? null : Number(fields[19]);
}

/** State letter of one thread as in ps(1): `t` is stopped by its tracer. Null where it is gone. */
export function threadStateOf(pid: number, tid: number): string | null {
  return statOf(`/proc/${pid}/task/${tid}/stat`)?.[0] ?? null;
}

/** PID of the tracer, 0 where nobody traces it or it is gone. */
export const tracerOf = (pid: number): number => Number(statusField(`/proc/${pid}/status`, "TracerPid") ?? 0);

/** How often a process was put on a processor, all threads together: unchanged means that it did not run at all. */
export function contextSwitchesOf(pid: number, tids: readonly number[]): number {
  return tids.reduce((sum, tid) => {
    const path = `/proc/${pid}/task/${tid}/status`;
    const counts = ["voluntary_ctxt_switches", "nonvoluntary_ctxt_switches"].map((name) => statusField(path, name));
    return sum + counts.reduce((total, count) => total + Number(count ?? 0), 0);
  }, 0);
}

/** Processor time of a process so far, user and system, in clock ticks (10 ms); 0 where it is gone. */
export function processorTicksOf(pid: number): number {
  const fields = statOf(`/proc/${pid}/stat`);
  return fields === null ? 0 : Number(fields[11]) + Number(fields[12]);
}

/** Time that one thread has run on a processor, ns; 0 where it is gone or the kernel does not count it. */
export const runTimeNsOf = (pid: number, tid: number): number =>
  Number(readText(`/proc/${pid}/task/${tid}/schedstat`)?.split(" ")[0] ?? 0);

/** The fields of a stat file from the state letter on (field 3 of proc(5)); null where it cannot be read. */
function statOf(path: string): readonly string[] | null {
  const text = readText(path);
  // The name in parentheses may hold spaces and parentheses itself: the last one ends it.
  return text === null ? null : text.slice(text.lastIndexOf(")") + 2).split(" ");
}

function statusField(path: string, name: string): string | null {
  const line = readText(path)
    ?.split("\n")
    .find((candidate) => candidate.startsWith(`${name}:`));
  return line?.slice(name.length + 1).trim() ?? null;
}

function readText(path: string): string | null {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return null; // gone between two looks
  }
}
