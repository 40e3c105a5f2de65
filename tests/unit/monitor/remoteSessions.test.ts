// SPDX-License-Identifier: Apache-2.0
/** Connections of a program inside a guest, from texts and links as its kernel and its ss give them. */
import { expect, test } from "bun:test";
import { ManualClock } from "#clock.ts";
import { address } from "#fault.ts";
import { RemoteSessions } from "#monitor/guest/remoteSessions.ts";

const recvfrom = 45;
const pid = 9;
const [ownMultiplexer, otherMultiplexer] = [3, 4];

/** Its descriptors by number; what ss says of the sockets among them. */
class Guest {
  readonly clock = new ManualClock();
  readonly files = new Map([
    [`/proc/${pid}/status`, "FDSize:\t64\n"],
    [`/proc/${pid}/task/${pid}/children`, ""],
  ]);
  links = new Map<number, string>();
  /** Bytes received, bytes sent and bytes unread, by inode. */
  told = new Map<number, readonly [received: number, sent: number, unread: number]>();
  readonly sessions = new RemoteSessions({
    pid,
    architecture: "x86_64",
    clock: this.clock,
    readFile: async (path) => {
      const text = this.files.get(path);
      return text === undefined ? null : new TextEncoder().encode(text);
    },
    readLinks: async (paths) => paths.map((path) => this.links.get(Number(path.split("/").at(-1))) ?? null),
    readPages: async () => new Uint8Array(),
    listConnections: async () => this.#list(),
    threads: () => [1, 2],
    multiplexersFor: () => ({ own: ownMultiplexer, others: [otherMultiplexer] }),
  });

  open(fd: number, inode: number): void {
    this.links.set(fd, `socket:[${inode}]`);
    this.told.set(inode, [10, 10, 0]);
  }

  /** The thread is seen waiting on it. */
  async waits(tid: number, fd: number): Promise<void> {
    const call = { syscall: recvfrom, arguments: [BigInt(fd)] };
    await this.sessions.note(tid, { ...call, sp: address(0x7000n), pc: address(0x4000n) });
  }

  #list(): string {
    const line = (inode: number, received: number, sent: number, unread: number): string =>
      `ESTAB ${unread} 0 10.0.0.2:80 10.0.0.1:${inode} ino:${inode} sk:1 cwnd:10 bytes_sent:${sent} bytes_received:${received} lastsnd:2 lastrcv:1`;
    return [...this.told].map(([inode, [received, sent, unread]]) => line(inode, received, sent, unread)).join("\n");
  }
}

test("a thread that goes on to a new connection has left one that was closed, not one that others may serve", async () => {
  const guest = new Guest();
  for (let turn = 0; turn < 12; turn += 1) {
    guest.links.delete(8 + ((turn + 1) % 2));
    guest.open(8 + (turn % 2), 100 + turn);
    await guest.waits(1, 8 + (turn % 2));
  }
  const { sockets } = await guest.sessions.look(1);
  expect(sockets).toMatchObject([{ peer: "10.0.0.1:111", own: true }]);
});

test("what only another thread's multiplexer watches is that thread's; nothing is said where its own cannot be read", async () => {
  const guest = new Guest();
  for (const fd of [8, 9]) guest.open(fd, 100 + fd);
  const watching = (...watched: number[]): string =>
    watched.map((fd) => `tfd: ${fd} events: 19 data: 0  pos:0 ino:${(100 + fd).toString(16)} sdev:8\n`).join("");
  guest.files.set(`/proc/${pid}/fdinfo/${otherMultiplexer}`, watching(8, 9));
  const elsewhere = async (): Promise<boolean[]> =>
    (await guest.sessions.look(1)).sockets.map((socket) => socket.elsewhere);
  expect(await elsewhere()).toEqual([false, false]);
  guest.files.set(`/proc/${pid}/fdinfo/${ownMultiplexer}`, watching(9));
  expect(await elsewhere()).toEqual([true, false]);
});

test("requests wait in vain since a stop only: a look for practice is none", async () => {
  const guest = new Guest();
  guest.open(8, 108);
  const verdict = async (): Promise<string | null> => {
    const asked = guest.sessions.unserved(1, { peer: null, others: 0 }, 1, new AbortController().signal);
    for (let passedMs = 0; passedMs < 2000; passedMs += 25) await guest.clock.advance(25);
    return await asked;
  };
  await guest.sessions.look(1);
  guest.told.set(108, [20, 10, 10]);
  expect(await verdict()).toBeNull();
  guest.told.set(108, [20, 20, 0]);
  await guest.sessions.lookAtStop(1);
  guest.told.set(108, [30, 20, 10]);
  expect(await verdict()).toBe("1 request waits unread and nobody was answered for 1500 ms");
});
