// SPDX-License-Identifier: Apache-2.0
/**
 * Locks that abandoned work leaves behind: released when somebody waits for them, by kind of mutex, and never a guess.
 */
import { afterAll, beforeAll, expect } from "bun:test";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { connect, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { systemClock } from "#clock.ts";
import { need, tracing } from "#tests/skip.ts";
import { type Guarded, guardCommand } from "./guardedServer.ts";

const timeoutMs = 60_000;
const lookMs = 10;
/** Longer than the keeper's patience by far: an answer that has not come by then does not come. */
const silenceMs = 1500;
const source = join(import.meta.dir, "../programs/locks.c");

let folder = "";
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "holdfast-locks-"));
});
afterAll(() => rmSync(folder, { recursive: true }));

async function start(): Promise<{ guarded: Guarded; open: () => Promise<Socket> }> {
  const program = join(folder, "locks");
  const built = Bun.spawnSync(["gcc", "-O2", "-pthread", "-o", program, source]);
  expect(built.stderr.toString()).toBe("");
  const portFile = join(folder, "port");
  const guarded = await guardCommand("--", "sh", "-c", `exec "$0" 2>"$1"`, program, portFile);
  const port = Number(/port (\d+)/.exec(readFileSync(portFile, "utf8"))?.[1]);
  const open = (): Promise<Socket> =>
    new Promise((resolve, reject) => {
      const socket = connect(port, "127.0.0.1", () => resolve(socket)).on("error", reject);
    });
  return { guarded, open };
}

/** The answer to an order, or null where none comes. */
function ask(socket: Socket, order: string): Promise<string | null> {
  return new Promise((resolve) => {
    const silence = new AbortController();
    systemClock.sleep(silenceMs, silence.signal).then(
      () => resolve(null),
      () => {},
    );
    socket.once("data", (bytes) => {
      silence.abort();
      resolve(bytes.toString().trim());
    });
    socket.write(order);
  });
}

for (const [kind, name] of ["normal", "recursive", "error-checking", "adaptive"].entries()) {
  need("gcc", "gdbserver", tracing)(
    `a ${name} mutex of abandoned work is released for the thread that waits for it`,
    async () => {
      const { guarded, open } = await start();
      await using _guarded = guarded;
      const killer = await open();
      expect(await ask(killer, "p0")).toBe("ok");
      killer.write(`x${kind}`);
      await guarded.guard.waitFor((event) => event.event === "fault", timeoutMs);
      const bystander = await open();
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
    const { guarded, open } = await start();
    await using _guarded = guarded;
    const killer = await open();
    killer.write("x5");
    await guarded.guard.waitFor((event) => event.event === "fault", timeoutMs);
    const waiter = await open();
    expect(await ask(waiter, "l5")).toBeNull();
    expect(guarded.guard.otherEvents).not.toContain("released");
    const other = await open();
    expect(await ask(other, "l0")).toBe("ok");
    while (guarded.guard.events.every((event) => event.event !== "outcome")) await systemClock.sleep(lookMs);
    for (const socket of [killer, waiter, other]) socket.destroy();
  },
  timeoutMs,
);
