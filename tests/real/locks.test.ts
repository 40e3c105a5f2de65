// SPDX-License-Identifier: Apache-2.0
/**
 * Locks that abandoned work leaves behind: released when somebody waits for them, by kind of mutex, and never a guess.
 */
import { expect } from "bun:test";
import { systemClock } from "#clock.ts";
import { need, tracing } from "#tests/skip.ts";
import { ask, guardOwn } from "./ownServer.ts";

const timeoutMs = 60_000;
const lookMs = 10;

for (const [kind, name] of ["normal", "recursive", "error-checking", "adaptive"].entries()) {
  need("gcc", "gdbserver", tracing)(
    `a ${name} mutex of abandoned work is released for the thread that waits for it`,
    async () => {
      await using server = await guardOwn("locks");
      const { guarded } = server;
      const killer = await server.open();
      expect(await ask(killer, "p0")).toBe("ok");
      killer.write(`x${kind}`);
      await guarded.guard.waitFor((event) => event.event === "fault", timeoutMs);
      const bystander = await server.open();
      expect(await ask(bystander, `l${kind}`)).toBe("ok");
      expect(await ask(bystander, `l${kind}`)).toBe("ok");
      const released = (): number => guarded.guard.otherEvents.filter((name) => name === "released").length;
      while (released() === 0) await systemClock.sleep(lookMs);
      expect(released()).toBe(1);
      expect(guarded.isSame()).toBe(true);
      killer.destroy();
      bystander.destroy();
    },
    timeoutMs,
  );
}

need("gcc", "gdbserver", tracing)(
  "a mutex that the kernel holds by priority is left alone, and a lock that a living thread holds is never touched",
  async () => {
    await using server = await guardOwn("locks");
    const { guarded } = server;
    const killer = await server.open();
    killer.write("x5");
    await guarded.guard.waitFor((event) => event.event === "fault", timeoutMs);
    const waiter = await server.open();
    expect(await ask(waiter, "l5")).toBeNull();
    expect(guarded.guard.otherEvents).not.toContain("released");
    const other = await server.open();
    expect(await ask(other, "l0")).toBe("ok");
    while (guarded.guard.events.every((event) => event.event !== "outcome")) await systemClock.sleep(lookMs);
    for (const socket of [killer, waiter, other]) socket.destroy();
  },
  timeoutMs,
);
