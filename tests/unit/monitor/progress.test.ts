// SPDX-License-Identifier: Apache-2.0
/**
 * What connections say about a program's progress. Gets counts at a stop and later; gives who was answered and who waits.
 */
import { expect, test } from "bun:test";
import type { ForeignSocket } from "#board/native/foreignSockets.ts";
import { ManualClock } from "#clock.ts";
import { Progress } from "#monitor/progress.ts";

const tid = 7;

const socket = (fd: number, received: number, sent: number, unreadBytes = 0, lastReceivedMs = 5000): ForeignSocket => ({
  fd,
  family: "inet",
  peer: `127.0.0.1:${4000 + fd}`,
  unreadBytes,
  tcp: { lastReceivedMs, lastSentMs: 0, bytesReceived: BigInt(received), bytesSent: BigInt(sent) },
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
  expect(progress.waiting(tid, [socket(5, 100, 90, 10), socket(6, 60, 50)])).toBe(0);
  expect(progress.waiting(tid, [socket(5, 110, 90, 20), socket(6, 60, 50, 10)])).toBe(2);
  const justBefore = since(socket(5, 100, 90, 10, 3));
  expect(justBefore.waiting(tid, [socket(5, 100, 90, 10, 1800)])).toBe(1);
  expect(justBefore.waiting(tid, [socket(5, 100, 95, 0, 1800)])).toBe(0);
});

async function verdictOf(progress: Progress, looks: readonly ForeignSocket[][]): Promise<string | null> {
  const clock = new ManualClock();
  let look = 0;
  const asked = progress.unserved(
    tid,
    () => looks[Math.min(look++, looks.length - 1)]!,
    clock,
    new AbortController().signal,
  );
  await clock.advance(2000);
  return await asked;
}

test("unserved is who waits while nobody is answered; one answer to anybody is enough", async () => {
  const before = [socket(5, 100, 90), socket(6, 50, 50)];
  const waiting = [socket(5, 110, 90, 10), socket(6, 60, 50, 10)];
  expect(await verdictOf(since(...before), [waiting])).toBe(
    "2 requests wait unread and nobody was answered for 1500 ms",
  );
  expect(await verdictOf(since(...before), [waiting, waiting, [socket(5, 110, 95, 10), waiting[1]!]])).toBeNull();
  expect(await verdictOf(since(...before), [waiting, waiting, before])).toBeNull();
  expect(await verdictOf(since(...before), [before])).toBeNull();
});
