// SPDX-License-Identifier: Apache-2.0
/**
 * Rung 5: a background thread that faults in its own main loop is given up, and the program serves on without it. And what
 * is told of its work.
 */
import { expect } from "bun:test";
import { readFileSync } from "node:fs";
import { systemClock } from "#clock.ts";
import { need, tracing } from "#tests/skip.ts";
import { ask, guardOwn } from "./ownServer.ts";

const timeoutMs = 60_000;
const lookMs = 10;

const blockedSignals = (pid: number, tid: number): string =>
  /^SigBlk:\t(\w+)$/m.exec(readFileSync(`/proc/${pid}/task/${tid}/status`, "utf8"))?.[1] ?? "";

need("gcc", "gdbserver", tracing)(
  "a background thread whose spine faults is parked, and stays parked through stops and signals",
  async () => {
    await using server = await guardOwn("background");
    const { guarded } = server;
    const [killer, bystander] = [await server.open(), await server.open()];
    expect(await ask(killer, "x")).toBe("x");
    const fault = await guarded.guard.waitFor((event) => event.event === "fault", timeoutMs);
    const outcome = await guarded.guard.waitFor((event) => event.event === "outcome", timeoutMs);
    expect(outcome).toMatchObject({ rung: "park", verdict: "degraded" });
    const thread = fault?.event === "fault" ? fault.thread : 0;
    // All but SIGKILL and SIGSTOP, which nobody can block, and SIGTRAP, which the step of the injected call has unblocked.
    expect(blockedSignals(guarded.pid, thread)).toBe("fffffffffffbfeef");
    process.kill(guarded.pid, "SIGSTOP");
    process.kill(guarded.pid, "SIGCONT");
    while (!readFileSync(`/proc/${guarded.pid}/task/${thread}/syscall`, "utf8").startsWith("271 ")) {
      await systemClock.sleep(lookMs);
    }
    expect(await ask(bystander, "p")).toBe("p");
    expect(await ask(killer, "q")).toBe("q");
    expect(guarded.isSame()).toBe(true);
    for (const socket of [killer, bystander]) socket.destroy();
  },
  timeoutMs,
);

need("gcc", "gdbserver", tracing)(
  "a piece of work under a lock that its caller finishes without it is no success",
  async () => {
    await using server = await guardOwn("background");
    const { guarded } = server;
    const killer = await server.open();
    expect(await ask(killer, "l")).toBe("l");
    const outcome = await guarded.guard.waitFor((event) => event.event === "outcome", timeoutMs);
    expect(outcome).toMatchObject({ rung: "abandon", verdict: "failed" });
    expect(JSON.stringify(outcome)).toContain("half changed");
    expect(await ask(killer, "q")).toBe("q");
    killer.destroy();
  },
  timeoutMs,
);
