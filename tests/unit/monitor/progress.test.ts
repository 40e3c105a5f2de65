// SPDX-License-Identifier: Apache-2.0
/**
 * What connections say about a program's progress. Gets counts at a stop and later; gives who was answered and who waits.
 */
import { describe, expect, test } from "bun:test";
import type { ForeignSocket } from "#board/native/foreignSockets.ts";
import { ManualClock } from "#clock.ts";
import { type Excused, Progress, type Waits } from "#monitor/progress.ts";

const tid = 7;

const socket = (fd: number, received: number, sent: number, unreadBytes = 0, lastReceivedMs = 5000): ForeignSocket => ({
  fd,
  family: "inet",
  peer: `127.0.0.1:${4000 + fd}`,
  unreadBytes,
  tcp: { lastReceivedMs, lastSentMs: 0, bytesReceived: BigInt(received), bytesSent: BigInt(sent), balance: 0 },
});

const since = (...before: ForeignSocket[]): Progress => {
  const progress = new Progress();
  progress.note(tid, before);
  return progress;
};

test("a connection that was read from since shows progress; so does a new one", () => {
  const progress = since(socket(5, 100, 90), socket(6, 50, 50));
  expect(progress.readAnew(tid, [socket(5, 110, 90), socket(6, 50, 50)])).toBe(1);
  expect(progress.readAnew(tid, [socket(5, 110, 90, 4), socket(6, 50, 50)])).toBe(1);
  expect(progress.readAnew(tid, [socket(5, 100, 90), socket(6, 50, 50), socket(8, 5, 0, 5)])).toBe(1);
  expect(progress.readAnew(9, [socket(5, 110, 100)])).toBeNull();
});

test("what waited at the stop and is read now was read since", () => {
  expect(since(socket(5, 100, 90, 10)).readAnew(tid, [socket(5, 100, 90)])).toBe(1);
});

test("to send over and over is no progress, and neither is to be asked", () => {
  const progress = since(socket(5, 100, 90), socket(6, 50, 50, 3));
  expect(progress.readAnew(tid, [socket(5, 100, 900), socket(6, 99, 50, 52)])).toBe(0);
});

test("unix sockets are not counted, but a new one is new", () => {
  const unix: ForeignSocket = { fd: 5, family: "unix", peer: "unix:", unreadBytes: 0, tcp: null };
  expect(since(unix).readAnew(tid, [unix])).toBe(0);
  expect(since(unix).readAnew(tid, [unix, { ...unix, fd: 6 }])).toBe(1);
});

test("a descriptor number that another client has now is another connection", () => {
  const other = { ...socket(5, 10, 10), peer: "127.0.0.1:9" };
  expect(since(socket(5, 100, 100)).readAnew(tid, [other])).toBe(1);
});

test("only what has come since, or just before, and is not read waits in vain", () => {
  const progress = since(socket(5, 100, 90, 10), socket(6, 50, 50));
  expect(progress.waiting(tid, [socket(5, 100, 90, 10), socket(6, 60, 50)])).toEqual([]);
  expect(progress.waiting(tid, [socket(5, 110, 90, 20), socket(6, 60, 50, 10)])).toHaveLength(2);
  const justBefore = since(socket(5, 100, 90, 10, 3));
  expect(justBefore.waiting(tid, [socket(5, 100, 90, 10, 1800)])).toHaveLength(1);
  expect(justBefore.waiting(tid, [socket(5, 100, 95, 0, 1800)])).toEqual([]);
});

describe("unserved", () => {
  const nobody: Excused = { peer: null, others: 0 };
  const before = [socket(5, 100, 90), socket(6, 50, 50)];
  const waiting = [socket(5, 110, 90, 10), socket(6, 60, 50, 10)];
  const only6Served = [waiting[0]!, socket(6, 60, 60)];

  type Look = readonly ForeignSocket[] | Waits;
  async function verdictOf(looks: readonly Look[], excused = nobody, atStop = before): Promise<string | null> {
    const progress = since(...atStop);
    const clock = new ManualClock();
    let turn = 0;
    const look = (): Waits => {
      const now = looks[Math.min(turn++, looks.length - 1)]!;
      return "sockets" in now ? now : { sockets: now, lockWaits: [] };
    };
    const asked = progress.unserved(tid, excused, look, clock, new AbortController().signal);
    for (let passedMs = 0; passedMs < 2000; passedMs += 25) await clock.advance(25);
    return await asked;
  }

  /** Answered before it was asked anew, `late` ms ago; its balance then and now. */
  const exchange = (fd: number, balance: number, late: number | null): ForeignSocket => ({
    ...socket(fd, 100 + balance, 90),
    tcp: {
      ...{ bytesReceived: BigInt(100 + balance), bytesSent: 90n, balance },
      ...{ lastReceivedMs: late ?? 900, lastSentMs: 900 },
    },
  });
  const [crowd, mute] = [0, 1].map((balance) =>
    [5, 6, 7, 8].map((fd) => exchange(fd, balance, balance === 0 ? null : 300)),
  ) as [ForeignSocket[], ForeignSocket[]];

  test("requests that were read and never answered, of connections that were answered before", async () => {
    expect(await verdictOf([mute], nobody, crowd)).toBe("4 requests were read and not answered for 1500 ms");
    expect(await verdictOf([mute], { peer: null, others: 4 }, crowd)).toBeNull();
    expect(await verdictOf([mute, crowd], nobody, crowd)).toBeNull();
    const acknowledged = crowd.map((each) => ({ ...each, tcp: { ...each.tcp!, lastReceivedMs: 300 } }));
    expect(await verdictOf([acknowledged], nobody, crowd)).toBeNull();
    expect(await verdictOf([mute], nobody, mute)).toBeNull();
    // Requests of a kind that takes long, and a restart is not what they ask for.
    const served = crowd.map((each) => ({ ...each, tcp: { ...each.tcp!, bytesReceived: 150n } }));
    expect(await verdictOf([[...mute.slice(0, 2), ...served.slice(2)]], nobody, crowd)).toBeNull();
    expect(await verdictOf([mute], nobody, [...crowd.slice(0, 2), ...mute.slice(2)])).toBeNull();
    expect(await verdictOf([mute], { ...nobody, unanswered: true }, crowd)).toBeNull();
  });

  /** Of a busy server: asked and answered within one tick of the kernel's clock, so long ago. */
  const busy = (fd: number, exchanges: number, agoMs: number, asking: boolean): ForeignSocket => ({
    ...socket(fd, 10, 10),
    tcp: {
      ...{ lastReceivedMs: agoMs, lastSentMs: agoMs, balance: asking ? 1 : 0 },
      ...{ bytesReceived: BigInt(10 * exchanges + (asking ? 10 : 0)), bytesSent: BigInt(10 * exchanges) },
    },
  });
  const all = (exchanges: number, agoMs: number, asking: boolean): ForeignSocket[] =>
    [5, 6, 7, 8, 9].map((fd) => busy(fd, exchanges, agoMs, asking));

  test("clients that were answered one after the other, and of whom nobody has been since", async () => {
    const flow = [...all(4, 2, false).slice(0, 2), ...all(4, 2, true).slice(2)];
    const silent = all(5, 900, true);
    expect(await verdictOf([silent], nobody, flow)).toBe("5 requests were read and not answered for 1500 ms");
    // One that was answered in the end: the others' requests take long.
    expect(await verdictOf([silent, silent, [busy(5, 6, 1, true), ...silent.slice(1)]], nobody, flow)).toBeNull();
    // The load has ended with the fault: nobody asks.
    expect(await verdictOf([all(5, 900, false)], nobody, flow)).toBeNull();
    expect(await verdictOf([[...all(5, 900, false).slice(2), ...silent.slice(0, 2)]], nobody, flow)).toBeNull();
    // It answered nobody before, or so many were given up.
    expect(await verdictOf([silent], nobody, all(4, 400, true))).toBeNull();
    expect(await verdictOf([silent], { peer: null, others: 5 }, flow)).toBeNull();
  });

  test("is everybody where requests wait and nobody is answered", async () => {
    expect(await verdictOf([waiting])).toBe("2 requests wait unread and nobody was answered for 1500 ms");
    expect(await verdictOf([waiting, waiting, before])).toBeNull();
    expect(await verdictOf([before])).toBeNull();
  });

  test("is who is not read from while others are served", async () => {
    expect(await verdictOf([waiting, waiting, only6Served])).toBe(
      "1 request waits unread for 1500 ms while others are served",
    );
    expect(await verdictOf([waiting, waiting, [socket(5, 130, 95, 10), socket(6, 70, 60, 10)]])).toBeNull();
  });

  test("is not the blamed session, nor so many others as may have been given up", async () => {
    const peer = waiting[0]!.peer;
    expect(await verdictOf([waiting, only6Served], { peer, others: 0 })).toBeNull();
    expect(await verdictOf([waiting, only6Served], { peer: null, others: 1 })).toBeNull();
    const both = [...waiting, socket(7, 9, 0, 9), socket(8, 9, 9)];
    expect(await verdictOf([both, [...waiting, socket(7, 9, 0, 9), socket(8, 18, 18)]], { peer, others: 1 })).toContain(
      "while others are served",
    );
  });

  test("is nobody of a server that let requests wait before its fault already, as long as it answers somebody", async () => {
    const slow = [socket(5, 100, 90, 10, 800), socket(6, 50, 50)];
    expect(await verdictOf([waiting, only6Served], nobody, slow)).toBeNull();
    expect(await verdictOf([waiting], nobody, slow)).toContain("nobody was answered");
  });

  test("is a thread that waits for one lock all the time", async () => {
    const stuck = (...lockWaits: string[]): Waits => ({ sockets: before, lockWaits });
    expect(await verdictOf([stuck("9 4096 1")])).toBe("1 thread waits for a lock that nobody released for 1500 ms");
    expect(await verdictOf([stuck("9 4096 1"), stuck("9 4096 2")])).toBeNull();
  });
});
