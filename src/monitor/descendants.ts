// SPDX-License-Identifier: Apache-2.0
/**
 * The processes that a process has forked and that live. Gets a process id; gives process ids, from /proc alone.
 *
 * A narrow look asks the first thread only, which is the one that forks in masters and postmasters (6 µs); a wide one asks
 * all threads of all descendants. Limits: `descendantsMax` given by the caller, depth `depthMax`.
 * Source: proc(5), `/proc/PID/task/TID/children` (CONFIG_PROC_CHILDREN).
 */
import { KeptFile, readSmall } from "./keptFile.ts";
import { readThreads } from "./processes.ts";

const depthMax = 8;

/** The children of one process, as often as they are asked for. Those of its other threads are not among them. */
export class OwnChildren implements Disposable {
  readonly #file: KeptFile;
  #text = "";
  #children: readonly number[] = [];

  constructor(pid: number) {
    this.#file = new KeptFile(`/proc/${pid}/task/${pid}/children`);
  }

  read(): readonly number[] {
    const text = this.#file.read() ?? "";
    if (text !== this.#text) [this.#text, this.#children] = [text, parseChildren(text)];
    return this.#children;
  }

  /** As they were read last. */
  get last(): readonly number[] {
    return this.#children;
  }

  [Symbol.dispose](): void {
    this.#file[Symbol.dispose]();
  }
}

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
  // Nothing: it went between two looks.
  return parseChildren(readSmall(`/proc/${pid}/task/${tid}/children`) ?? "");
}

const parseChildren = (text: string): number[] => (text === "" ? [] : text.trim().split(" ").map(Number));
