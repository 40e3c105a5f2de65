// SPDX-License-Identifier: Apache-2.0
/**
 * Whom to blame. Gets made-up evidence and one record of a real false cut; gives the session and how sure it is.
 */
import { describe, expect, test } from "bun:test";
import type { SessionEvidence } from "#fault.ts";
import { blameConfidence, findSession } from "#suppression/sessionFinder.ts";

const socket = (fd: number, changes: Partial<SessionEvidence> = {}): SessionEvidence => ({
  fd,
  peer: `192.0.2.1:${fd}`,
  unreadBytes: 0,
  lastReceivedMs: 12,
  lastSentMs: 12,
  neverAnswered: false,
  reach: { direct: 0, near: 0, far: 0 },
  commonness: { direct: 0, near: 0 },
  ...changes,
});

const asking = { lastReceivedMs: 0, lastSentMs: 24 };

describe("findSession", () => {
  test("one unanswered connection that the request reaches is blamed with confidence", () => {
    const guilty = socket(40, { ...asking, reach: { direct: 3, near: 2, far: 2 } });
    const found = findSession([socket(8), guilty, socket(9), socket(10, { unreadBytes: 30 })]);
    expect(found?.fd).toBe(40);
    expect(found!.confidence).toBeGreaterThan(blameConfidence);
  });

  test("nobody is blamed by the kernel's evidence alone, or where there is nobody", () => {
    expect(findSession([socket(8, asking), socket(9)])).toBeNull();
    expect(findSession([])).toBeNull();
  });

  test("two that are reached alike and both wait for an answer: below the threshold", () => {
    const reach = { direct: 3, near: 2, far: 2 };
    const found = findSession([socket(40, { ...asking, reach }), socket(41, { ...asking, reach })]);
    expect(found?.confidence ?? 0).toBeLessThan(blameConfidence);
  });

  test("where each connection has a thread, the thread's own is blamed: in the middle of its answer, and after a long time", () => {
    const others = [socket(41, { ...asking, elsewhere: true }), socket(42, { elsewhere: true })];
    const [answering, slow] = [
      { lastReceivedMs: 8, lastSentMs: 4 },
      { lastReceivedMs: 900, lastSentMs: 950 },
    ];
    for (const state of [answering, slow]) {
      const found = findSession([...others, socket(40, { ...state, own: true })]);
      expect(found?.fd).toBe(40);
      expect(found!.confidence).toBeGreaterThan(blameConfidence);
    }
  });

  test("a connection that was the thread's own, and has an answer, is not blamed beside one that the request reaches", () => {
    const own = socket(40, { lastReceivedMs: 900, lastSentMs: 890, own: true });
    const served = socket(41, { ...asking, reach: { direct: 3, near: 2, far: 2 } });
    expect(findSession([own, served])?.fd).toBe(41);
  });

  test("a number that is everywhere says nothing, however often it is reached", () => {
    const everywhere = { direct: 0.02, near: 0.02 };
    const found = findSession([
      socket(8, { ...asking, reach: { direct: 12, near: 9, far: 9 }, commonness: everywhere }),
      socket(107, { ...asking, reach: { direct: 2, near: 1, far: 2 } }),
    ]);
    expect(found?.fd).toBe(107);
  });

  test("unread data clears a connection: its request was not being worked on", () => {
    const waiting = socket(40, { ...asking, unreadBytes: 50, reach: { direct: 4, near: 3, far: 3 } });
    expect(findSession([waiting])?.confidence ?? 0).toBeLessThan(blameConfidence);
  });

  test("unix sockets have no times: memory alone can name one, against others it does not reach", () => {
    const unix = { lastReceivedMs: null, lastSentMs: null };
    const guilty = socket(40, { ...unix, reach: { direct: 4, near: 3, far: 3 } });
    const found = findSession([guilty, socket(41, unix), socket(42, unix)]);
    expect(found?.fd).toBe(40);
    expect(found!.confidence).toBeGreaterThan(blameConfidence);
  });

  test("a bystander of the same round that memory reaches by chance is not cut (a false cut of redis, 2026-11-23)", () => {
    const round = { lastReceivedMs: 0, lastSentMs: 24 };
    const found = findSession([
      socket(48, { ...round, reach: { direct: 4, near: 3, far: 2 }, commonness: { direct: 0.0012, near: 0.00015 } }),
      socket(107, {
        ...{ lastReceivedMs: 0, lastSentMs: 4, neverAnswered: true },
        ...{ reach: { direct: 2, near: 1, far: 2 }, commonness: { direct: 0, near: 0.00005 } },
      }),
      socket(52, { ...round, reach: { direct: 0, near: 4, far: 2 }, commonness: { direct: 0, near: 0.0002 } }),
      socket(49, { ...round, reach: { direct: 0, near: 2, far: 4 }, commonness: { direct: 0, near: 0.0001 } }),
    ]);
    expect(found?.fd === 107 || (found?.confidence ?? 0) < blameConfidence).toBe(true);
  });

  const crowd = (count: number, changes: Partial<SessionEvidence>): SessionEvidence[] =>
    Array.from({ length: count }, (_, index) => socket(100 + index, changes));
  const reach = { direct: 0, near: 4, far: 3 };

  test("answered within a tick of the clock: as many segments each way as everybody say that it is at rest", () => {
    const guilty = socket(60, { lastReceivedMs: 44, lastSentMs: 152, reach, balance: 1 });
    const found = findSession([guilty, ...crowd(11, { balance: 0, reach: { direct: 0, near: 0, far: 1 } })]);
    expect(found?.fd).toBe(60);
    expect(found!.confidence).toBeGreaterThan(blameConfidence);
    const unknown = findSession([guilty, ...crowd(43, { reach: { direct: 0, near: 0, far: 1 } })]);
    expect(unknown!.confidence).toBeLessThan(blameConfidence);
  });

  test("one segment more than everybody was received: it waits for its answer, whatever the clock says", () => {
    const quick = socket(60, { reach, balance: 1 });
    const pending = socket(61, { ...asking, balance: 1, reach: { direct: 0, near: 0, far: 1 } });
    const found = findSession([quick, pending, ...crowd(40, { balance: 0 })]);
    expect(found?.fd).toBe(60);
  });

  test("where all wait for their answers, the balance says nothing", () => {
    const pending = socket(61, { ...asking, balance: 1, reach: { direct: 0, near: 0, far: 1 } });
    const found = findSession([socket(60, { reach, balance: 1 }), pending, ...crowd(40, { balance: 1 })]);
    expect(found?.confidence ?? 0).toBeLessThan(blameConfidence);
  });

  test("a connection that only other threads watch is not this one's, however it is reached", () => {
    const theirs = socket(60, { ...asking, reach: { direct: 4, near: 3, far: 3 }, elsewhere: true });
    const own = socket(61, { ...asking, reach });
    expect(findSession([theirs, own])?.fd).toBe(61);
  });
});
