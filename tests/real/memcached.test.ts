// SPDX-License-Identifier: Apache-2.0
/**
 * Stock memcached under guard: the fault of upstream fix 9981d748f in one worker thread keeps all bystanders of all worker
 * threads, while the guilty client stays connected.
 */
import { expect } from "bun:test";
import { Bystanders } from "#appliance/demo/bystanders.ts";
import { frameMemcached } from "#appliance/demo/framing.ts";
import type { OutcomeEvent } from "#appliance/demo/guardEvents.ts";
import { authenticatedTraffic } from "#appliance/demo/memcachedTraffic.ts";
import { memcachedAccount } from "#appliance/demo/serverRecipes.ts";
import { triggersOf } from "#appliance/demo/triggers.ts";
import { systemClock } from "#clock.ts";
import { need, tracing } from "#tests/skip.ts";
import { guardServer } from "./guardedServer.ts";

const timeoutMs = 120_000;
const verdictMsMax = 20_000;
/** memcached deals connections to its 4 workers in turn: 100 bystanders are 25 on each. */
const connections = 100;
const laterRounds = 20;

for (const trigger of triggersOf("memcached")) {
  need("memcached", "gdbserver", tracing)(
    `${trigger.name} (${trigger.upstream}) keeps every bystander on every worker`,
    async () => {
      await using server = await guardServer("memcached");
      const load = await Bystanders.start({
        ...{ port: server.port, connections, framing: frameMemcached, seed: 7, clock: systemClock },
        traffic: authenticatedTraffic(memcachedAccount.user, memcachedAccount.password),
        pace: { kind: "closed", underWay: 1 },
      });
      await load.roundTrip();
      await using killing = await trigger.send(server.port, 1);
      if (killing.fate !== "answered") {
        const judged = await server.guard.waitFor((event) => event.event === "outcome", verdictMsMax);
        expect(["clean", "degraded"]).toContain((judged as OutcomeEvent | null)?.verdict ?? "none");
        expect(server.guard.events.find((event) => event.event === "fault")?.signal).toBe(trigger.signal);
      }
      for (let round = 0; round < laterRounds; round += 1) await load.roundTrip();
      expect(await load.stop()).toMatchObject({ connections, wrong: 0, missing: 0, lost: 0, evidence: [] });
      expect(server.isSame()).toBe(true);
      expect(server.guard.violations).toEqual([]);
    },
    timeoutMs,
  );
}
