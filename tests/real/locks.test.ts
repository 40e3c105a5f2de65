// SPDX-License-Identifier: Apache-2.0
/**
 * Locks that abandoned work leaves behind: released when somebody waits for them, by kind of mutex, and never a guess.
 */
import { expect } from "bun:test";
import { systemClock } from "#clock.ts";
import { until } from "#tests/peers/guardRun.ts";
import { need, tracing } from "#tests/skip.ts";
import { ask, guardOwn } from "./ownServer.ts";

const timeoutMs = 60_000;
const lookMs = 10;

const kinds = {
  ...{ 0: "normal mutex", 1: "recursive mutex", 2: "error-checking mutex", 3: "adaptive mutex" },
  ...{ 4: "robust mutex", 5: "priority-inheriting mutex" },
  ...{ 6: "read-write lock that a writer waits for", 7: "read-write lock that a reader waits for", 8: "stream's lock" },
  ...{ ";": "read-write lock, held for reading," },
};

for (const [kind, name] of Object.entries(kinds)) {
  need("gcc", "gdbserver", tracing)(
    `the ${name} of abandoned work is released for the thread that waits for it`,
    async () => {
      // The client is not cut: its thread lives on, and the kernel has nothing to clear up.
      await using server = await guardOwn("locks", { options: ["--rungs", "abandon"] });
      const { guarded } = server;
      const killer = await server.open();
      expect(await ask(killer, "p0")).toBe("ok");
      killer.write(`x${kind}`);
      await guarded.guard.waitFor((event) => event.event === "fault", timeoutMs);
      const bystander = await server.open();
      expect(await ask(bystander, `l${kind}`)).toBe("ok");
      expect(await ask(bystander, `l${kind}`)).toBe("ok");
      const released = (): number => guarded.guard.otherEvents.filter((name) => name === "released").length;
      await until(() => released() > 0);
      expect(released()).toBe(1);
      expect(guarded.isSame()).toBe(true);
      killer.destroy();
      bystander.destroy();
    },
    timeoutMs,
  );
}

need("gcc", "gdbserver", tracing)(
  "a lock of no known kind is left alone, and so is one that a living thread holds",
  async () => {
    await using server = await guardOwn("locks");
    const { guarded } = server;
    const killer = await server.open();
    killer.write("x9");
    await guarded.guard.waitFor((event) => event.event === "fault", timeoutMs);
    const waiter = await server.open();
    expect(await ask(waiter, "l9")).toBeNull();
    expect(guarded.guard.otherEvents).not.toContain("released");
    const other = await server.open();
    expect(await ask(other, "l0")).toBe("ok");
    while (guarded.guard.events.every((event) => event.event !== "outcome")) await systemClock.sleep(lookMs);
    for (const socket of [killer, waiter, other]) socket.destroy();
  },
  timeoutMs,
);
