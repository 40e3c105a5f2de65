// SPDX-License-Identifier: Apache-2.0
/**
 * Whether any process or thread was made on this machine since the last question: one read of one small file, so that nobody
 * need look through a process tree in which nothing can have changed. Many programs ask at one beat: one read serves all who
 * ask within `freshMs`.
 *
 * What is in another PID namespace below ours counts too. Where the file cannot be read, the answer is always yes.
 * Source: proc(5), loadavg: its last field is the process id that was given out last.
 */
import type { Clock } from "#clock.ts";
import { KeptFile } from "./keptFile.ts";

const freshMs = 20;

/** The file is open from the first question on, once for the whole process. */
let loads: KeptFile | null = null;
let read: { readonly clock: unknown; readonly atNs: number; readonly last: string | null } | null = null;

export class ProcessNews {
  #last: string | null = null;

  constructor(private readonly clock: Pick<Clock, "monotonicNs">) {}

  /** The first answer is yes. */
  any(): boolean {
    const last = lastMade(this.clock);
    const isNews = last === null || last !== this.#last;
    this.#last = last;
    return isNews;
  }
}

function lastMade(clock: Pick<Clock, "monotonicNs">): string | null {
  const nowNs = clock.monotonicNs();
  if (read === null || read.clock !== clock || nowNs - read.atNs >= freshMs * 1e6) {
    loads ??= new KeptFile("/proc/loadavg");
    const line = loads.read();
    read = { clock, atNs: nowNs, last: line?.slice(line.lastIndexOf(" ")) ?? null };
  }
  return read.last;
}
