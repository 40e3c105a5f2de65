// SPDX-License-Identifier: Apache-2.0
/**
 * Stock memcached under guard: the fault of upstream fix 9981d748f, in every worker thread, keeps all bystanders of all
 * worker threads, while the guilty clients stay connected or are cut; nobody else is.
 */
import { expect } from "bun:test";
import { Bystanders } from "#appliance/demo/bystanders.ts";
import { frameMemcached } from "#appliance/demo/framing.ts";
import type { FaultEvent, OutcomeEvent } from "#appliance/demo/guardEvents.ts";
import type { Killing } from "#appliance/demo/killer.ts";
import { authenticatedTraffic } from "#appliance/demo/memcachedTraffic.ts";
import { memcachedAccount } from "#appliance/demo/serverRecipes.ts";
import { type Trigger, triggersOf } from "#appliance/demo/triggers.ts";
import { systemClock } from "#clock.ts";
import { type Need, need, programPath, tracing } from "#tests/skip.ts";
import { type GuardedServer, guardServer } from "./guardedServer.ts";

const timeoutMs = 120_000;
const verdictMsMax = 20_000;
/** memcached deals connections to its 4 workers in turn: 100 bystanders are 25 on each, 4 guilty clients one on each. */
const connections = 100;
const workers = 4;
const laterRounds = 20;

const startLoad = (port: number): Promise<Bystanders> =>
  Bystanders.start({
    ...{ port, connections, framing: frameMemcached, seed: 7, clock: systemClock },
    traffic: authenticatedTraffic(memcachedAccount.user, memcachedAccount.password),
    pace: { kind: "closed", underWay: 1 },
  });

/** Sends the crash and waits for its verdict; the guilty client is given back connected. */
async function crash(trigger: Trigger, server: GuardedServer, shot: number): Promise<Killing> {
  const from = server.guard.events.length;
  const enough = new AbortController();
  const sending = trigger.send(server.port, shot, enough.signal);
  const judged = await server.guard.waitFor((event) => event.event === "outcome", verdictMsMax, from);
  enough.abort();
  const outcome = judged as OutcomeEvent | null;
  expect(["clean", "degraded"]).toContain(outcome?.verdict ?? "none");
  const killing = await sending;
  if (outcome?.rung === "quarantine") expect(outcome.session?.peer).toBe(killing.peer);
  return killing;
}

const faultsOf = (server: GuardedServer): readonly FaultEvent[] =>
  server.guard.events.filter((event): event is FaultEvent => event.event === "fault");

const vulnerable: Need = () => {
  const path = programPath("memcached");
  const said = path === null ? "" : Bun.spawnSync([path, "--version"]).stdout.toString();
  return said.includes("1.6.18") ? null : `memcached 1.6.18, whose fault this is, not ${said.trim()}`;
};

for (const trigger of triggersOf("memcached")) {
  need(
    "memcached",
    "gdbserver",
    tracing,
    vulnerable,
  )(
    `${trigger.name} (${trigger.upstream}) in every worker in turn keeps every bystander`,
    async () => {
      await using server = await guardServer("memcached");
      const load = await startLoad(server.port);
      await load.roundTrip();
      const guilty: Killing[] = [];
      for (let shot = 0; shot < workers; shot += 1) {
        guilty.push(await crash(trigger, server, shot));
        await load.roundTrip();
      }
      for (let round = 0; round < laterRounds; round += 1) await load.roundTrip();
      expect(await load.stop()).toMatchObject({ connections, wrong: 0, missing: 0, lost: 0, evidence: [] });
      expect(server.isSame()).toBe(true);
      expect(server.guard.violations).toEqual([]);
      expect(faultsOf(server).map((fault) => fault.signal)).toEqual(guilty.map(() => trigger.signal));
      expect(new Set(faultsOf(server).map((fault) => fault.thread)).size).toBe(workers);
      for (const killing of guilty) await killing[Symbol.asyncDispose]();
    },
    timeoutMs,
  );

  need(
    "memcached",
    "gdbserver",
    tracing,
    vulnerable,
  )(
    "100 crashes in a row, no guilty client leaving by itself",
    async () => {
      await using server = await guardServer("memcached");
      const load = await startLoad(server.port);
      const guilty: Killing[] = [];
      for (let shot = 0; shot < 100; shot += 1) guilty.push(await crash(trigger, server, shot));
      await load.roundTrip();
      expect(await load.stop()).toMatchObject({ connections, wrong: 0, missing: 0, lost: 0, evidence: [] });
      expect(server.isSame()).toBe(true);
      for (const killing of guilty) await killing[Symbol.asyncDispose]();
    },
    timeoutMs,
  );
}
