// SPDX-License-Identifier: Apache-2.0
/**
 * Stock redis under guard, with 100 checked bystanders: every crash command is survived by the same process, nobody is cut
 * and nobody hears a wrong word; a newcomer is served right afterwards. Then many crashes in a row.
 */
import { expect } from "bun:test";
import { Bystanders } from "#appliance/demo/bystanders.ts";
import { frameResp } from "#appliance/demo/framing.ts";
import { redisTraffic } from "#appliance/demo/redisTraffic.ts";
import { openDisplay } from "#appliance/demo/screen.ts";
import { fire, type Range } from "#appliance/demo/shot.ts";
import { type Trigger, triggersOf } from "#appliance/demo/triggers.ts";
import { seededRandom, systemClock } from "#clock.ts";
import { withoutMemoryTest } from "#tests/peers/redisMemoryTest.ts";
import { long, need, tracing } from "#tests/skip.ts";
import { type GuardedServer, guardServer } from "./guardedServer.ts";

const timeoutMs = 240_000;
const seed = 31;
const connections = 100;
/** With its memory test, redis takes up to a second for each panic. */
const [crashes, panics] = long("real") ? [100, 20] : [40, 8];

const startLoad = (server: GuardedServer): Promise<Bystanders> =>
  Bystanders.start({
    ...{ port: server.port, connections, framing: frameResp, traffic: redisTraffic, seed, clock: systemClock },
    pace: { kind: "open", requestsPerSecond: 4_000 },
  });

const silent = { write: () => {}, environment: {}, isTerminal: false, size: () => ({ columns: 80, rows: 24 }) };

const rangeOf = (server: GuardedServer, load: Bystanders): Range => ({
  ...{ guard: server.guard, port: server.port, pid: server.pid, clock: systemClock },
  ...{ signal: new AbortController().signal, display: openDisplay(true, silent) },
  scene: { title: "", startedNs: 0, nowNs: 0, rates: [], samples: 0, bystanders: load.counts(), shots: [] },
});

/** Sends one crash command and holds its outcome to the promise; false where this package has the fault fixed. */
async function survives(trigger: Trigger, number: number, range: Range): Promise<boolean> {
  const shot = await fire(trigger, number, range);
  expect(shot.newcomerServed).toBe(true);
  if (shot.state === "fixed") return false;
  expect(shot.state).toBe("judged");
  expect(shot.faults.map((fault) => fault.signal)).toContain(trigger.signal);
  expect(["clean", "degraded"]).toContain(shot.outcomes.at(-1)?.verdict ?? "none");
  const cut = shot.outcomes.filter((outcome) => outcome.rung === "quarantine").map((outcome) => outcome.session?.peer);
  for (const peer of cut) expect(peer).toBe(shot.peer!);
  return true;
}

const unharmed = { connections, wrong: 0, missing: 0, lost: 0, evidence: [] };

for (const trigger of triggersOf("redis-server")) {
  need(
    "redis-server",
    "gdbserver",
    "prlimit",
    tracing,
  )(
    `${trigger.name} (${trigger.upstream}) costs nobody else anything`,
    async () => {
      await using server = await guardServer("redis-server", ...withoutMemoryTest("redis-server"));
      const load = await startLoad(server);
      await load.roundTrip();
      await survives(trigger, 1, rangeOf(server, load));
      await load.roundTrip();
      expect(await load.stop()).toMatchObject(unharmed);
      expect(server.isSame()).toBe(true);
      expect(server.guard.violations).toEqual([]);
    },
    timeoutMs,
  );
}

need("redis-server", "gdbserver", tracing)(
  `${crashes} crashes in a row (seed ${seed})`,
  async () => {
    await using server = await guardServer("redis-server", ...withoutMemoryTest("redis-server"));
    const load = await startLoad(server);
    const range = rangeOf(server, load);
    const random = seededRandom(seed);
    // Those that no package has fixed and that need no limit of their own.
    const builtIn = triggersOf("redis-server").filter((trigger) => trigger.upstream === "built in");
    for (let number = 0; number < crashes; number += 1) {
      expect(await survives(builtIn[Math.floor(random() * builtIn.length)]!, number, range)).toBe(true);
    }
    expect(await load.stop()).toMatchObject(unharmed);
    expect(server.isSame()).toBe(true);
    expect(server.guard.events.filter((event) => event.event === "fault").length).toBeGreaterThanOrEqual(crashes);
    expect(server.guard.violations).toEqual([]);
  },
  timeoutMs,
);

need(
  "redis-server",
  "redis-cli",
  "gdbserver",
  tracing,
)(
  `${panics} panics in a row: before each abort redis ends its own threads and scribbles over all its memory`,
  async () => {
    await using server = await guardServer("redis-server");
    const load = await startLoad(server);
    const range = rangeOf(server, load);
    const panic = triggersOf("redis-server").find((trigger) => trigger.name === "panic")!;
    for (let number = 0; number < panics; number += 1) {
      const from = server.guard.events.length;
      const shot = await fire(panic, number, range);
      // The memory test may be struck by SIGSEGV first: what counts is that the last word is good.
      expect([shot.state, shot.newcomerServed], JSON.stringify(server.guard.events.slice(from))).toEqual([
        "judged",
        true,
      ]);
    }
    expect(await load.stop()).toMatchObject(unharmed);
    // A job for the threads that are gone: their queue's mutex went with them.
    const flush = ["timeout", "20", "redis-cli", "-p", String(server.port), "FLUSHALL", "ASYNC"];
    expect(Bun.spawnSync(flush).stdout.toString().trim()).toBe("OK");
    expect(server.isSame()).toBe(true);
  },
  timeoutMs,
);
