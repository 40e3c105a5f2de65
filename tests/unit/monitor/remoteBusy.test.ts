// SPDX-License-Identifier: Apache-2.0
/** What waits for a thread inside a guest, from texts as the kernel writes them. */
import { expect, test } from "bun:test";
import { RemoteBusy } from "#monitor/guest/remoteBusy.ts";

const head = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n";
const row = (inode: number, unread: number): string =>
  `   0: 0100007F:1F90 0100007F:C4D2 01 00000000:${unread.toString(16).padStart(8, "0")} 00:00000000 00000000     0        0 ${inode} 1 0000000000000000 20 4 30 10 -1\n`;
const interest = (...inodes: number[]): string =>
  `pos:\t0\nflags:\t02\nmnt_id:\t15\nino:\t1060\n${inodes
    .map(
      (inode, fd) =>
        `tfd: ${String(fd).padStart(8)} events:       19 data: 7f0000000000  pos:0 ino:${inode.toString(16)} sdev:8\n`,
    )
    .join("")}`;

/** A guest of one thread, 9, that waits on descriptor 5. */
class Guest {
  ticks = 0;
  ranNs = 0;
  switches = 4;
  sockets: readonly (readonly [number, number])[] = [];
  watched: readonly number[] = [];
  readonly busy = new RemoteBusy(9, { threads: () => [9], descriptorOf: () => 5 }, async (path) => {
    const text = this.#text(path);
    return text === null ? null : new TextEncoder().encode(text);
  });

  run(ms: number): Promise<boolean> {
    this.ticks += ms / 10;
    this.ranNs += ms * 1e6;
    return this.busy.refresh();
  }

  #text(path: string): string | null {
    if (path === "/proc/9/stat") return `9 (a server) R 1 9 9 0 -1 0 0 0 0 0 ${this.ticks} 0 0 0 20 0 1 0 5 0 0`;
    if (path === "/proc/9/task/9/schedstat") return `${this.ranNs} 0 7`;
    if (path === "/proc/9/task/9/status") return `Name:\ta\nvoluntary_ctxt_switches:\t${this.switches}\n`;
    if (path === "/proc/9/net/tcp") return head + this.sockets.map(([inode, unread]) => row(inode, unread)).join("");
    return path === "/proc/9/fdinfo/5" ? interest(...this.watched) : null;
  }
}

test("a thread that burns is awaited by what it watches, and gets on where bytes become fewer or a socket is new", async () => {
  const guest = new Guest();
  guest.watched = [501];
  guest.sockets = [
    [501, 30],
    [900, 50],
  ];
  await guest.run(500);
  expect(guest.busy.isAwaited(9)).toBe(false);
  await guest.run(500);
  expect([guest.busy.processorNs(9), guest.busy.switches(9), guest.busy.isAwaited(9)]).toEqual([1e9, 4, true]);
  const mark = guest.busy.mark(9);
  await guest.run(500);
  expect(guest.busy.gotOn(9, mark)).toBe(false);
  // Somebody hangs up, another's bytes become fewer: neither is work of this thread.
  guest.sockets = [[900, 0]];
  await guest.run(500);
  expect([guest.busy.isAwaited(9), guest.busy.gotOn(9, mark)]).toEqual([false, false]);
  guest.watched = [501, 502];
  guest.sockets = [[502, 20]];
  await guest.run(500);
  expect(guest.busy.gotOn(9, mark)).toBe(true);
  const later = guest.busy.mark(9);
  guest.sockets = [[502, 5]];
  await guest.run(500);
  expect(guest.busy.gotOn(9, later)).toBe(true);
});

test("a program that did nothing is not read", async () => {
  const guest = new Guest();
  expect(await guest.run(500)).toBe(true);
  expect(await guest.run(0)).toBe(false);
});
