// SPDX-License-Identifier: Apache-2.0
/**
 * Whether any process or thread was made on this machine since the last question: one read of one small file, so that nobody
 * need look through a process tree in which nothing can have changed.
 *
 * What is in another PID namespace below ours counts too. Where the file cannot be read, the answer is always yes.
 * Source: proc(5), loadavg: its last field is the process id that was given out last.
 */
import { KeptFile } from "./keptFile.ts";

export class ProcessNews implements Disposable {
  readonly #loads = new KeptFile("/proc/loadavg");
  #last = "";

  /** The first answer is yes. */
  any(): boolean {
    const line = this.#loads.read();
    const last = line?.slice(line.lastIndexOf(" ")) ?? "";
    const isNews = line === null || last !== this.#last;
    this.#last = last;
    return isNews;
  }

  [Symbol.dispose](): void {
    this.#loads[Symbol.dispose]();
  }
}
