// SPDX-License-Identifier: Apache-2.0
/**
 * What a guard tells of a process that its program has forked. Faults and outcomes are the program's own; that a worker
 * came or went is an event of its own name, so that whoever waits for the program to be guarded, or to end, is not misled.
 */
import { isAlive } from "#monitor/processes.ts";
import { type Notice, Notices } from "../notices.ts";

export class ChildNotices extends Notices {
  constructor(
    private readonly program: Notices,
    name: string,
    private readonly pid: number,
  ) {
    super(name, "json", () => {});
  }

  override tell(notice: Notice): void {
    if (notice.event === "guarding" || notice.event === "exit" || notice.event === "unguarded") return;
    // Its end may overtake the letting go of it, which then fails and is no loss.
    if (notice.event === "warning" && !isAlive(this.pid)) return;
    this.program.tell(notice);
  }
}
