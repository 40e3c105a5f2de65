// SPDX-License-Identifier: Apache-2.0
/**
 * Probes: what their answers mean at every split, what a real connection tells, and when a row of failures counts.
 */
import { afterAll, describe, expect, test } from "bun:test";
import { createServer, type Server } from "node:net";
import { ManualClock } from "#clock.ts";
import type { ProbeState } from "#health.ts";
import type { Judged } from "#monitor/probeExchange.ts";
import { dateOfHttp, judgeHttp, judgeMqtt, judgeRedis } from "#monitor/probeRequests.ts";
import { newProbeState, observed, runProbe, takeAnswer } from "#monitor/probeRunner.ts";
import { parseProbe } from "#monitor/probes.ts";

const bytes = (text: string): Uint8Array => new Uint8Array(Buffer.from(text, "latin1"));

describe("answers", () => {
  test.each<[(answer: Uint8Array) => Judged, string, "good" | "bad"]>([
    [judgeHttp, "HTTP/1.1 200 OK\r\n", "good"],
    [judgeHttp, "HTTP/1.0 302\r\n", "good"],
    [judgeHttp, "HTTP/1.1 503 Service Unavailable\r\n", "bad"],
    [judgeHttp, "HTTP/1.1 20\r\n", "bad"],
    [judgeHttp, "SSH-2.0-x\r\n", "bad"],
    [judgeRedis, "+PONG\r\n", "good"],
    [judgeRedis, "-NOAUTH Authentication required.\r\n", "good"],
    [judgeRedis, "-LOADING Redis is loading the dataset in memory\r\n", "bad"],
    [judgeRedis, ":1\r\n", "bad"],
    [judgeMqtt, "\x20\x02\x00\x00", "good"],
    [judgeMqtt, "\x20\x02\x00\x05", "good"],
    [judgeMqtt, "\x20\x02\x00\x03", "bad"],
    [judgeMqtt, "\x30\x02\x00\x00", "bad"],
    [judgeMqtt, "\x20\x03\x00\x00", "bad"],
  ])("%p of %p is %s, and its beginnings are never better", (judge, answer, wanted) => {
    expect(judge(bytes(answer)).kind).toBe(wanted);
    for (let length = 1; length < answer.length; length += 1) {
      const kind = judge(bytes(answer.slice(0, length))).kind;
      expect(wanted === "good" ? ["more", "good"] : ["more", "bad"]).toContain(kind);
    }
  });
});

test.each(["", "tcp:", "tcp:0", "tcp:65536", "tcp:1/x", "redis:x", "cmd:", "ftp:1", "http:/x", "http:80/a b"])(
  "%p is no probe",
  (text) => expect(() => parseProbe(text)).toThrow("no probe"),
);

describe("over a connection", () => {
  const servers: Server[] = [];
  afterAll(() => {
    for (const server of servers) server.close();
  });

  /** A server that gives this answer to whatever is said first; null: it hangs up. */
  function answering(answer: string | null): Promise<number> {
    const server = createServer((socket) => {
      socket.on("error", () => {});
      socket.once("data", () => (answer === null ? socket.destroy() : socket.write(Buffer.from(answer, "latin1"))));
    });
    servers.push(server);
    return new Promise((resolve) => {
      server.listen(0, "127.0.0.1", () => resolve((server.address() as { port: number }).port));
    });
  }
  const ask = (text: string): Promise<string | null> => parseProbe(text)(new AbortController().signal);

  test("good answers", async () => {
    expect(await ask(`http:${await answering("HTTP/1.1 204 No Content\r\n\r\n")}/healthz`)).toBeNull();
    expect(await ask(`redis:127.0.0.1:${await answering("+PONG\r\n")}`)).toBeNull();
    expect(await ask(`mqtt:${await answering("\x20\x02\x00\x00")}`)).toBeNull();
    expect(await ask(`tcp:${await answering(null)}`)).toBeNull();
    expect(await ask("cmd:true")).toBeNull();
  });
  test("bad answers say what was asked and what came", async () => {
    const port = await answering("HTTP/1.1 500 Oops\r\n\r\n");
    expect(await ask(`http:${port}`)).toBe(`GET ${port}: status 500`);
    expect(await ask(`redis:${await answering(null)}`)).toContain("closed without an answer");
    expect(await ask("cmd:exit 3")).toBe('command "exit 3": exit code 3');
  });
});

describe("in a row", () => {
  const answer = (trouble: string | null) => ({ trouble, atMs: 1, answerMs: 2 });
  test("so many failures make it failing, one success makes it pass", () => {
    let state = newProbeState("p");
    const states = [null, "x", "x", "x", null, "x"].map((trouble) => {
      state = takeAnswer(state, answer(trouble), 3);
      return `${state.state} ${state.failuresInRow}`;
    });
    expect(states).toEqual(["passing 0", "passing 1", "passing 2", "failing 3", "passing 0", "passing 1"]);
    expect(state.failures).toBe(4);
    expect(takeAnswer(newProbeState("p"), answer("x"), 2).state).toBe("waiting");
  });

  test("the first question comes after the delay, the next ones after the period", async () => {
    const clock = new ManualClock();
    const asked: number[] = [];
    const told: ProbeState[] = [];
    const end = new AbortController();
    const startNs = clock.monotonicNs();
    const running = runProbe(
      {
        name: "p",
        probe: async () => {
          asked.push((clock.monotonicNs() - startNs) / 1e6);
          return "down";
        },
        schedule: { initialDelayMs: 30, periodMs: 100, failuresMax: 2 },
        clock,
        told: (state) => told.push(state),
      },
      end.signal,
    );
    for (let step = 0; step < 24; step += 1) await clock.advance(10);
    end.abort();
    await running;
    expect(asked).toEqual([30, 130, 230]);
    expect(told.map(({ state }) => state)).toEqual(["waiting", "failing", "failing"]);
  });
});

test("an observed probe is asked once, and its answer goes to whoever asked and to whoever watches", async () => {
  const clock = new ManualClock();
  const told: string[] = [];
  const answers = ["starting", "starting", null, "down", "down"];
  const probe = observed({
    ...{ name: "p", clock, failuresMax: 2, patienceMs: 1_000 },
    probe: async () => answers.shift()!,
    told: ({ state, why }) => void told.push(`${state} ${why}`),
  });
  const ask = (): Promise<string | null> => probe(new AbortController().signal);
  expect(await ask()).toBe("starting");
  expect(told).toEqual([]);
  await clock.advance(1_500);
  expect([await ask(), await ask(), await ask(), await ask()]).toEqual(["starting", null, "down", "down"]);
  expect(told).toEqual(["waiting starting", "passing null", "passing down", "failing down"]);
  const late = new AbortController();
  late.abort();
  answers.push("cut short");
  await probe(late.signal);
  expect(told.length).toBe(4);
});

test("an HTTP probe tells the wall clock of the answer", async () => {
  const peerMs = Date.UTC(2031, 4, 6, 7, 8, 9);
  using server = Bun.serve({
    port: 0,
    hostname: "127.0.0.1",
    fetch: () => new Response("fine", { headers: { Date: new Date(peerMs).toUTCString() } }),
  });
  const told: number[] = [];
  const probe = parseProbe(`http:${server.port}/`, (atMs) => void told.push(atMs));
  expect(await probe(new AbortController().signal)).toBeNull();
  expect(told).toEqual([peerMs]);
  const dates = ["HTTP/1.1 200 OK\r\n\r\n", "HTTP/1.1 200 OK\r\nDate: nonsense\r\n\r\n", "HTTP/1.1 200 OK\r\nDat"];
  expect(dates.map((text) => dateOfHttp(new TextEncoder().encode(text)))).toEqual([null, null, null]);
});
