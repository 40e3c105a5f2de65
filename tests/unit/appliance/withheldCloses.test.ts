// SPDX-License-Identifier: Apache-2.0
/**
 * Whose close is withheld and for how long, under a clock that is moved by hand.
 */
import { expect, test } from "bun:test";
import { originOf, WithheldCloses, withheldFor } from "#appliance/withheldCloses.ts";
import { ManualClock } from "#clock.ts";

function stage() {
  const clock = new ManualClock();
  const open = new Set<number>();
  const hungUp = new Set<number>();
  const told: string[] = [];
  const hold = (fd: number) => {
    open.add(fd);
    return {
      descriptor: fd,
      isHungUp: () => hungUp.has(fd),
      get isOpen() {
        return open.has(fd);
      },
      [Symbol.dispose]: () => void open.delete(fd),
    };
  };
  const closes = new WithheldCloses({ clock, hold, told: (peer, ms) => told.push(`${peer} ${ms}`) });
  const end = new AbortController();
  void closes.run(end.signal);
  let fds = 0;
  const cut = (peer: string, connectionsShared = false): void => {
    fds += 1;
    const multiplexers = connectionsShared || closes.mayHold ? [7] : null;
    closes.before({ connectionsShared, multiplexers }, { cut: true, session: { fd: fds, peer, confidence: 1 } });
  };
  return { clock, open, hungUp, told, closes, cut };
}

/** What was woken by the first close that is withheld has gone to sleep. */
async function asleep(): Promise<void> {
  for (let turn = 0; turn < 16; turn += 1) await Promise.resolve();
}

test("from the third cut of an origin on its close is withheld, each time for twice as long", async () => {
  const { clock, open, told, cut } = stage();
  for (let port = 1; port <= 4; port += 1) cut(`10.0.0.1:${port}`);
  cut("10.0.0.2:1");
  expect(told).toEqual(["10.0.0.1:3 1000", "10.0.0.1:4 2000"]);
  expect([...open]).toEqual([3, 4]);
  await asleep();
  await clock.advance(1300);
  expect([...open]).toEqual([4]);
  await clock.advance(1000);
  expect([...open]).toEqual([]);
});

test("a client that goes by itself is let go, and peace makes up for the past", async () => {
  const { clock, open, hungUp, cut } = stage();
  for (let port = 1; port <= 3; port += 1) cut(`[::1]:${port}`);
  expect([...open]).toEqual([3]);
  hungUp.add(3);
  await asleep();
  await clock.advance(300);
  expect([...open]).toEqual([]);
  await clock.advance(600_000);
  cut("[::1]:4");
  expect([...open]).toEqual([]);
});

test("what nobody can withhold is not held, and what is held is bounded", () => {
  const { open, closes, cut } = stage();
  for (let port = 1; port <= 5; port += 1) cut(`10.0.0.1:${port}`, true);
  const alone = { connectionsShared: false, multiplexers: [7] };
  closes.before(alone, { cut: false, session: { fd: 99, peer: "10.0.0.1:9", confidence: 1 } });
  const unknown = { connectionsShared: false, multiplexers: null };
  closes.before(unknown, { cut: true, session: { fd: 98, peer: "10.0.0.1:8", confidence: 1 } });
  expect(open.size).toBe(0);
  for (let port = 1; port <= 400; port += 1) cut(`10.0.0.1:${port}`);
  expect(open.size).toBe(256);
  expect(closes.count).toBe(256);
});

test("origins and times", () => {
  expect(["127.0.0.1:80", "[fe80::1]:80", "unix:", "unix:/a:1"].map(originOf)).toEqual([
    "127.0.0.1",
    "[fe80::1]",
    "unix",
    "unix",
  ]);
  expect([1, 2, 3, 4, 12, 90].map(withheldFor)).toEqual([0, 0, 1000, 2000, 300_000, 300_000]);
});
