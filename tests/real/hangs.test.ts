// SPDX-License-Identifier: Apache-2.0
/**
 * Threads that go round for ever: the loop is broken in place, its client is cut, all others are served; and work that is
 * only long is left alone.
 */
import { expect } from "bun:test";
import { systemClock } from "#clock.ts";
import { until } from "#tests/peers/guardRun.ts";
import { need, tracing } from "#tests/skip.ts";
import { ask, guardOwn, type OwnServer } from "./ownServer.ts";

const timeoutMs = 90_000;
/** Seconds of processor time, while a request waits and while none does: short, for tests. */
const options = ["--hang", "0.5,1.5"];
const askEveryMs = 5;
const asksMax = 10_000;
const hangs = need("gcc", "gdbserver", tracing);

const faultsOf = ({ guarded }: OwnServer) => guarded.guard.events.filter((event) => event.event === "fault");
const outcomesOf = ({ guarded }: OwnServer) =>
  guarded.guard.events.flatMap((event) => (event.event === "outcome" ? [event] : []));

/** The handler, and a loop whose innermost frame comes and goes with each round. */
const loops = { l0: "in its handler", l3: "that calls through a pointer" };

for (const [order, where] of Object.entries(loops)) {
  hangs(
    `a server of one thread goes on serving after an endless loop ${where}, whose client is cut`,
    async () => {
      await using server = await guardOwn("loops", { words: ["epoll"], options });
      const bystander = await server.open();
      expect(await ask(bystander, "p0")).toBe("ok");
      const guilty = await server.open();
      const closed = new Promise((resolve) => guilty.on("close", resolve));
      guilty.write(order);
      const answered = new Promise((resolve) => bystander.once("data", resolve));
      bystander.write("p0");
      expect(String(await answered)).toBe("ok\n");
      await closed;
      await until(() => outcomesOf(server).at(-1)?.verdict === "clean");
      expect(outcomesOf(server)[0]).toMatchObject({ rung: "quarantine" });
      expect(faultsOf(server).every(({ signal }) => signal === "SIGSTOP")).toBe(true);
      expect(await ask(bystander, "p0")).toBe("ok");
      expect(server.guarded.isSame()).toBe(true);
      bystander.destroy();
    },
    timeoutMs,
  );
}

hangs(
  "one thread of several goes round for ever: it is ended with its client, all others never stop",
  async () => {
    await using server = await guardOwn("loops", { words: ["threads"], options });
    const [bystander, guilty] = [await server.open(), await server.open()];
    const closed = new Promise((resolve) => guilty.on("close", resolve));
    guilty.write("l2");
    let isClosed = false;
    void closed.then(() => {
      isClosed = true;
    });
    for (let asked = 0; !isClosed && asked < asksMax; asked += 1) {
      expect(await ask(bystander, "p0")).toBe("ok");
      await systemClock.sleep(askEveryMs);
    }
    expect(await ask(bystander, "p0")).toBe("ok");
    expect(server.guarded.isSame()).toBe(true);
    // The close is seen before the news of it. More than one where the first frame given up was inside the loop.
    await until(() => faultsOf(server).length > 0);
    expect([...new Set(faultsOf(server).map(({ signal }) => signal))]).toEqual(["SIGSTOP"]);
    bystander.destroy();
  },
  timeoutMs,
);

hangs(
  "work that is long, with requests waiting or without, is no hang",
  async () => {
    await using server = await guardOwn("loops", { words: ["epoll"], options: ["--hang", "1,60"] });
    const [worker, bystander] = [await server.open(), await server.open()];
    const waits = (socket: typeof worker): Promise<string> =>
      new Promise((resolve) => socket.once("data", (bytes) => resolve(String(bytes))));
    // Over the limit while nobody waits; then half of the limit while somebody does.
    worker.write("wD");
    expect(await waits(worker)).toBe("ok\n");
    const both = Promise.all([waits(worker), waits(bystander)]);
    worker.write("w5");
    bystander.write("p0");
    expect(await both).toEqual(["ok\n", "ok\n"]);
    expect(faultsOf(server)).toEqual([]);
    for (const socket of [worker, bystander]) socket.destroy();
  },
  timeoutMs,
);
