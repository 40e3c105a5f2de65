// SPDX-License-Identifier: Apache-2.0
/**
 * The supervisor is killed at every write to its stub in the course of one act that cuts a connection: the registers asked for,
 * each system call that the stopped thread runs, the last registers. Its successor finishes what was begun, nothing stays
 * stopped, everybody else is served, and the intent is settled.
 *
 * strace kills it at the Nth write to the stub's FIFO, counted from the fault on. Usual form: four points; at length: all.
 */
import { afterAll, beforeAll, expect } from "bun:test";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { connect, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { startTicksOf, threadStateOf } from "#appliance/demo/processFacts.ts";
import { freshName, GuardRun, until } from "#tests/peers/guardRun.ts";
import { long, need, tracing } from "#tests/skip.ts";

const timeoutMs = 120_000;
/** The act takes nine writes: the stop, two for each of three system calls, the last registers and what follows. */
const points = long("path") ? [1, 2, 3, 4, 5, 6, 7, 8, 9, 10] : [1, 2, 5, 8];

let folder = "";
let program = "";
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "holdfast-act-"));
  program = join(folder, "loops");
  Bun.spawnSync(["gcc", "-O2", "-pthread", "-o", program, join(import.meta.dir, "../programs/loops.c")]);
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const open = (port: number): Promise<Socket> =>
  new Promise((resolve, reject) => {
    const socket = connect(port, "127.0.0.1", () => resolve(socket)).on("error", reject);
  });

/** Sends an order; resolves with the answer, or null where the connection ends. */
const order = (socket: Socket, text: string): Promise<string | null> =>
  new Promise((resolve) => {
    socket.once("data", (bytes) => resolve(bytes.toString().trim()));
    socket.once("close", () => resolve(null));
    socket.write(text);
  });

/** Kills a supervisor at its nth write to the stub from now on; resolves once that is armed. */
async function killAtWrite(run: GuardRun, name: string, nth: number): Promise<Bun.Subprocess> {
  const fifo = `/run/holdfast/guards/${name}/stub/in`;
  const said = join(folder, `strace-${nth}`);
  const inject = ["-e", "trace=write", "-e", `inject=write:signal=KILL:when=${nth}`, "-P", fifo];
  const tracer = Bun.spawn(["strace", "-f", "-o", said, ...inject, "-p", `${run.pid}`], {
    stdio: ["ignore", "ignore", "pipe"],
  });
  const reader = (tracer.stderr as ReadableStream<Uint8Array>).getReader();
  for (let text = ""; !text.includes("attached"); ) text += Buffer.from((await reader.read()).value ?? []).toString();
  reader.releaseLock();
  return tracer;
}

const verb = [process.execPath, join(import.meta.dir, "../../src/cli/main.ts")];

for (const nth of points) {
  need(
    "gcc",
    "gdbserver",
    "strace",
    tracing,
  )(
    `the supervisor is killed at write ${nth} of an act`,
    async () => {
      const [name, state] = [freshName("act"), join(folder, `state-${nth}`)];
      const words = ["--name", name, "--state", state, "--", "sh", "-c", `exec "$0" epoll 2>"$1"`];
      const said = join(folder, `said-${nth}`);
      await using run = new GuardRun([...words, program, said]);
      const pid = await run.guarding();
      const startTicks = startTicksOf(pid);
      const port = Number(/port (\d+)/.exec(readFileSync(said, "utf8"))![1]);
      const [bystander, killer] = [await open(port), await open(port)];
      expect(await order(bystander, "p0")).toBe("ok");

      const tracer = await killAtWrite(run, name, nth);
      const answer = order(killer, "f0");
      await Promise.race([tracer.exited, until(() => run.ended)]);
      await until(() => run.ended);
      await tracer.exited;

      await using heir = new GuardRun([...words, program, said]);
      expect(await heir.guarding()).toBe(pid);
      expect(["no", null]).toContain(await answer);
      expect(await order(bystander, "p0")).toBe("ok");
      expect([startTicksOf(pid), threadStateOf(pid, pid)]).not.toContain("t");
      expect(startTicksOf(pid)).toBe(startTicks);
      // Protected again: the next fault is survived.
      const next = await open(port);
      const again = order(next, "f0");
      expect(["no", null]).toContain(await again);
      expect(await order(bystander, "p0")).toBe("ok");
      await until(() => heir.seen("outcome").length > 0);
      for (const socket of [bystander, killer, next]) socket.destroy();
      heir.signal("SIGTERM");
      await heir.end();
      const faults = Bun.spawnSync([...verb, "faults", "--json", "--state", state])
        .stdout.toString()
        .trim()
        .split("\n");
      for (const { trials } of faults.map((line) => JSON.parse(line)))
        for (const trial of trials) expect(trial.verdict).not.toBeNull();
    },
    timeoutMs,
  );
}
