// SPDX-License-Identifier: Apache-2.0
/**
 * The seeded injection run in its short form: the injector does what it says, on a live server with and without guard.
 *
 * Without: the server dies of it. With: the guard sees one fault of the right signal at the very place, the oracle and the
 * verdict agree. How many faults are survived is the long run's to measure (scripts/bench/inject.ts).
 */
import { expect } from "bun:test";
import { seededRandom, systemClock } from "#clock.ts";
import { type Attack, runControl, runGuarded } from "#scripts/bench/inject/attack.ts";
import { attachBare } from "#scripts/bench/inject/bareStub.ts";
import { judgeRun } from "#scripts/bench/inject/classify.ts";
import { type FaultKind, faultKinds, placesIn } from "#scripts/bench/inject/faultPlaces.ts";
import { findHot, ProgramText, shuffled } from "#scripts/bench/inject/hotCode.ts";
import { Load } from "#scripts/bench/inject/load.ts";
import { startTarget } from "#scripts/bench/inject/servers.ts";
import { need, processor, tracing } from "#tests/skip.ts";

const seed = 7;
const connections = 16;
const timeoutMs = 120_000;
const signals: Readonly<Record<FaultKind, string>> = {
  ...{ nullBase: "SIGSEGV", wildBase: "SIGSEGV", nullCall: "SIGSEGV", abort: "SIGABRT" },
};

need(
  "memcached",
  "gdbserver",
  tracing,
  processor("x64"),
)(
  `each kind of fault kills memcached unguarded, and is one fault where it was set up under guard (seed ${seed})`,
  async () => {
    const { attack, hot } = await lookAtServer();
    const random = seededRandom(seed);
    for (const kind of faultKinds) {
      const places = shuffled(hot, random).flatMap((code) => placesIn(attack.text, code, kind, random).slice(0, 2));
      const control = await runControl(attack, places);
      expect(control).toMatchObject({ killed: true });
      expect(control!.signals[0]).toBe(signals[kind]);
      const seen = await runGuarded(attack, control!.place, 1, { options: [], keep: null });
      expect(seen).toMatchObject({ injected: 1 });
      expect(seen!.faults[0]!.signal).toBe(signals[kind]);
      const offsets = seen!.faults[0]!.frames.map(({ offset }) => Number(offset));
      if (kind === "nullBase" || kind === "wildBase") expect(offsets[0]).toBe(control!.place.place);
      if (kind === "nullCall") expect(seen!.faults[0]!.frames[0]!.pc).toBe("0x0");
      const { act } = control!.place;
      if (act.kind === "abort") expect(offsets).toContain(act.returnTo);
      expect(judgeRun(seen!).falseVerdict).toBe(false);
    }
  },
  timeoutMs,
);

async function lookAtServer() {
  await using target = await startTarget("memcached");
  const text = await ProgramText.ofProcess(target.pid, null);
  const attack: Attack = { server: "memcached", text, connections, seed };
  const { port, talk } = target;
  await using load = await Load.start({ port, talk, connections, seed, prefix: "client", clock: systemClock });
  await load.moreAnswers(1);
  await using bare = await attachBare(target.pid);
  const hot = await findHot(text, target.pid, bare.relay, systemClock);
  expect(load.fates().map(({ fate }) => fate)).not.toContain("cut");
  expect(target.isSame()).toBe(true);
  expect(hot.length).toBeGreaterThan(20);
  return { attack, hot };
}
