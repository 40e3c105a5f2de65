// SPDX-License-Identifier: Apache-2.0
/**
 * The processes that a process has forked and that live. Gets a process id; gives process ids, from /proc alone.
 *
 * A narrow look asks the first thread only, which is the one that forks in masters and postmasters (6 µs); a wide one asks
 * all threads of all descendants. Limits: `descendantsMax` given by the caller, depth `depthMax`.
 * Source: proc(5), `/proc/PID/task/TID/children` (CONFIG_PROC_CHILDREN).
 */
import { readFileSync } from "node:fs";
import { readThreads } from "./processes.ts";

const depthMax = 8;

export function readDescendants(pid: number, wide: boolean, most: number): number[] {
  if (!wide) return childrenOf(pid, pid).slice(0, most);
  const found = new Set<number>();
  let level = [pid];
  for (let depth = 0; depth < depthMax && level.length > 0 && found.size < most; depth += 1) {
    const next = level.flatMap((parent) => readThreads(parent).flatMap((tid) => childrenOf(parent, tid)));
    level = next.filter((child) => child !== pid && !found.has(child));
    for (const child of level) found.add(child);
  }
  return [...found].slice(0, most);
}

function childrenOf(pid: number, tid: number): number[] {
  try {
    const text = readFileSync(`/proc/${pid}/task/${tid}/children`, "latin1");
    return text === "" ? [] : text.trim().split(" ").map(Number);
  } catch {
    return []; // Gone between two looks.
  }
}
