// SPDX-License-Identifier: Apache-2.0
/**
 * A client that comes back whenever it is cut, and kills again: the first cuts it sees at once, later ones only after a while,
 * and nobody else waits for it.
 */
import { expect } from "bun:test";
import { until } from "#tests/peers/guardRun.ts";
import { need, tracing } from "#tests/skip.ts";
import { ask, guardOwn } from "./ownServer.ts";

const timeoutMs = 60_000;

need("gcc", "gdbserver", tracing)(
  "from the third cut on a killer does not see its close for a while, and bystanders are served meanwhile",
  async () => {
    await using server = await guardOwn("loops", { words: ["epoll"] });
    const { guard } = server.guarded;
    const bystander = await server.open();
    const seenAtOnce: boolean[] = [];
    for (let kill = 1; kill <= 4; kill += 1) {
      const killer = await server.open();
      let isClosed = false;
      killer.on("close", () => {
        isClosed = true;
      });
      killer.write("f0");
      const cuts = () =>
        guard.events.filter((event) => event.event === "outcome" && event.rung === "quarantine").length;
      // Closed in the act itself where it is not withheld; seen when its verdict is there, a quarter of a second later.
      await until(() => cuts() === kill);
      seenAtOnce.push(isClosed);
      expect(await ask(bystander, "p0")).toBe("ok");
      await until(() => isClosed);
    }
    expect(seenAtOnce.slice(0, 2)).toEqual([true, true]);
    expect(seenAtOnce.at(-1)).toBe(false);
    expect(server.guarded.isSame()).toBe(true);
    bystander.destroy();
  },
  timeoutMs,
);
