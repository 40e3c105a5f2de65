// SPDX-License-Identifier: Apache-2.0
/**
 * The crash commands against unguarded stock servers: each ends the process by its signal, where this package still has
 * the fault; and the bystanders notice it. A newer package must answer instead, and serve the next client.
 */
import { expect, test } from "bun:test";
import { Bystanders, type Pace } from "#appliance/demo/bystanders.ts";
import { frameMemcached, frameResp } from "#appliance/demo/framing.ts";
import { authenticatedTraffic } from "#appliance/demo/memcachedTraffic.ts";
import { redisTraffic } from "#appliance/demo/redisTraffic.ts";
import { limitAddressSpace, searchPath, startServer } from "#appliance/demo/serverProcess.ts";
import { memcachedAccount } from "#appliance/demo/serverRecipes.ts";
import { newcomerServed } from "#appliance/demo/shot.ts";
import { type Trigger, triggers } from "#appliance/demo/triggers.ts";
import { systemClock } from "#clock.ts";
import { withoutMemoryTest } from "#tests/peers/redisMemoryTest.ts";
import { need } from "#tests/skip.ts";

const seed = 20;
/** The versions whose crashes are facts, and not hopes. */
const crashing: Readonly<Record<Trigger["program"], RegExp>> = {
  "redis-server": /v=7\.0\.15 /,
  memcached: /memcached 1\.6\.18\b/,
};

const closed: Pace = { kind: "closed", underWay: 2 };
const open: Pace = { kind: "open", requestsPerSecond: 5_000 };

const startLoad = (program: Trigger["program"], port: number, connections: number, pace: Pace): Promise<Bystanders> =>
  Bystanders.start({
    ...{ port, connections, seed, clock: systemClock, pace },
    ...(program === "memcached"
      ? { framing: frameMemcached, traffic: authenticatedTraffic(memcachedAccount.user, memcachedAccount.password) }
      : { framing: frameResp, traffic: redisTraffic }),
  });

async function versionText(program: string): Promise<string> {
  const path = Bun.which(program, { PATH: searchPath() }) ?? program;
  return await Bun.spawn([path, "--version"], { stdout: "pipe" }).stdout.text();
}

for (const trigger of triggers) {
  need(trigger.program, "prlimit")(`${trigger.program} ${trigger.name} (${trigger.upstream})`, async () => {
    await using server = await startServer(trigger.program, systemClock, withoutMemoryTest(trigger.program));
    if (trigger.addressBytesMax !== null) await limitAddressSpace(server.pid, trigger.addressBytesMax);
    const load = await startLoad(trigger.program, server.port, 20, closed);
    await load.roundTrip();
    await using killing = await trigger.send(server.port, 1);
    if (killing.fate === "cut") {
      expect(await server.exited).toEqual({ code: null, signal: trigger.signal });
      expect((await load.stop()).lost).toBe(20);
      return;
    }
    expect(await versionText(trigger.program)).not.toMatch(crashing[trigger.program]);
    expect(killing.fate).toBe("answered");
    if (trigger.program === "redis-server") expect(await newcomerServed(server.port, 1, systemClock)).toBe(true);
    expect(await load.stop()).toMatchObject({ wrong: 0, missing: 0, lost: 0 });
  });
}

for (const program of ["redis-server", "memcached"] as const) {
  for (const pace of [closed, open]) {
    need(program)(`100 bystanders, ${pace.kind} pace, hear nothing wrong from a healthy ${program}`, async () => {
      await using server = await startServer(program, systemClock);
      const load = await startLoad(program, server.port, 100, pace);
      for (let round = 0; round < 20; round += 1) await load.roundTrip();
      const counts = await load.stop();
      expect(counts).toMatchObject({ connections: 100, wrong: 0, missing: 0, lost: 0, underWay: 0, evidence: [] });
      expect(counts.right).toBeGreaterThanOrEqual(100 * 20);
      expect(counts.latency.count).toBe(counts.right);
    });
  }
}

test("every trigger has a name of its own", () => {
  expect(new Set(triggers.map((trigger) => trigger.name)).size).toBe(triggers.length);
});
