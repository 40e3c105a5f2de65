// SPDX-License-Identifier: Apache-2.0
/**
 * When a thread is suspected to hang: told in processor time, by what is seen of it, and learned from its own past.
 */
import { expect, test } from "bun:test";
import { BusyStretches } from "#monitor/busyStretches.ts";

const tid = 7;
const limits = { waitedMs: 1000, unwaitedMs: 5000 };

/** A program of one thread whose facts are set by hand. */
function stage() {
  const facts = { ranMs: 0, switches: 3, isAwaited: false, gotOn: false };
  const stretches = new BusyStretches<number>(
    {
      threads: () => [tid],
      processorNs: () => facts.ranMs * 1e6,
      switches: () => facts.switches,
      isAwaited: () => facts.isAwaited,
      mark: () => 1,
      gotOn: () => facts.gotOn,
    },
    limits,
  );
  /** Burns so much processor time, looked at every 100 ms of it; gives the time at which it was first suspected. */
  const burn = (ms: number): number | null => {
    for (let ran = 0; ran < ms; ran += 100) {
      facts.ranMs += 100;
      if (stretches.look().includes(tid)) return ran + 100;
    }
    return null;
  };
  stretches.look();
  return { facts, stretches, burn };
}

test("a thread that burns while work waits is suspected at the shorter limit, else at the longer one", () => {
  const { facts, burn } = stage();
  expect(burn(4900)).toBeNull();
  expect(burn(200)).toBe(100);
  const other = stage();
  other.facts.isAwaited = true;
  expect(other.burn(10_000)).toBe(1000);
  expect(facts.ranMs).toBe(5000);
});

test("work that began to wait late has half of the limit", () => {
  const { facts, burn } = stage();
  expect(burn(900)).toBeNull();
  facts.isAwaited = true;
  expect(burn(400)).toBeNull();
  expect(burn(1000)).toBe(200);
});

test("a thread that waits, or whose connections are answered, or that gets no processor, is not suspected", () => {
  for (const sign of ["waits", "answers"] as const) {
    const { facts, burn } = stage();
    facts.isAwaited = true;
    facts.gotOn = sign === "answers";
    for (let round = 0; round < 50; round += 1) {
      if (sign === "waits") facts.switches += 1;
      expect(burn(500)).toBeNull();
    }
  }
  const { facts, stretches } = stage();
  facts.isAwaited = true;
  for (let look = 0; look < 1000; look += 1) expect(stretches.look()).toEqual([]);
});

test("the longest stretch that ended by itself is learned; one that was acted upon is not, and has a shorter limit after", () => {
  const { facts, stretches, burn } = stage();
  facts.isAwaited = false;
  expect(burn(2000)).toBeNull();
  facts.switches += 1;
  facts.isAwaited = true;
  expect(burn(10_000)).toBe(6100);
  expect(stretches.longestMs).toBe(2000);
  stretches.acted(tid);
  expect(burn(10_000)).toBe(1600);
  expect(stretches.longestMs).toBe(2000);
  stretches.excuse(tid);
  expect(stretches.longestMs).toBe(2000);
});
