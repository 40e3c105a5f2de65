// SPDX-License-Identifier: Apache-2.0
/**
 * The judgement of an injected run, the framing of the twins that only the bench has, and the intervals of its shares.
 */
import { expect, test } from "bun:test";
import type { FaultEvent, OutcomeEvent } from "#appliance/demo/guardEvents.ts";
import { seededRandom } from "#clock.ts";
import { judgeRun, type Observation } from "#scripts/bench/inject/classify.ts";
import { dnsTraffic, essenceOfDns, frameDns, question, refusedByDns } from "#scripts/bench/inject/dnsTraffic.ts";
import { essenceOfHttp, frameHttp, httpTraffic } from "#scripts/bench/inject/httpTraffic.ts";
import type { ClientFate, Fate } from "#scripts/bench/inject/load.ts";
import { frameMqtt, mqttTraffic } from "#scripts/bench/inject/mqttTraffic.ts";
import { wilsonInterval } from "#scripts/bench/statistics.ts";

const fates = (...list: Fate[]): ClientFate[] =>
  list.map((fate, client) => ({ client, peer: "127.0.0.1:1", fate, words: "", waiting: fate !== "right" }));
const fault: FaultEvent = { event: "fault", id: "1", signal: "SIGSEGV", thread: 1, site: "a+0x1", frames: [] };
const outcome = (verdict: OutcomeEvent["verdict"], rung: OutcomeEvent["rung"] = "abandon"): OutcomeEvent => ({
  ...{ event: "outcome", id: "1", rung, verdict, stopUs: 1, session: null },
});

const good: Observation = {
  ...{ injected: 1, faults: [fault], outcomes: [outcome("clean")], same: true },
  ...{ fates: fates("right", "right"), goesOn: true, newcomers: fates("right") },
};

test.each([
  ["nobody harmed", {}, "clean", true, true, false],
  ["the guilty one cut", { fates: fates("cut", "right") }, "clean", true, true, false],
  ["the guilty one told something wrong", { fates: fates("wrong", "right") }, "clean", true, false, false],
  ["judged degraded", { outcomes: [outcome("degraded")] }, "degraded", true, true, false],
  ["one more cut than faults", { fates: fates("cut", "cut") }, "zombie", false, false, true],
  ["one more told wrong", { fates: fates("cut", "wrong") }, "silent corruption", false, false, true],
  ["newcomers told wrong", { newcomers: fates("wrong") }, "silent corruption", false, false, true],
  ["newcomers not let in", { newcomers: [] }, "zombie", false, false, true],
  [
    "more faults than injected, and more harm",
    { faults: [fault, fault], fates: fates("cut", "silent") },
    ...["re-crash within probation", false, false, true],
  ],
  ["gone, and said so", { same: false, outcomes: [outcome("failed")] }, "dead", false, false, false],
  ["gone after a good word", { same: false }, "dead", false, false, true],
  ["restarted", { same: false, outcomes: [outcome("clean", "restart")] }, "escalated", false, false, true],
] as const)("%s", (_, change, found, survived, strict, falseVerdict) => {
  const seen = { ...good, ...(change as Partial<Observation>) };
  expect(judgeRun(seen)).toMatchObject({ class: found, survived, strict, falseVerdict });
});

test("a connection that ended with nothing under way is a reset bystander", () => {
  const idle = fates("cut").map((fate) => ({ ...fate, waiting: false }));
  expect(judgeRun({ ...good, fates: idle }).resets).toBe(1);
});

test.each([
  ["http", frameHttp, httpTraffic],
  ["mqtt", frameMqtt, mqttTraffic],
  ["dns", frameDns, dnsTraffic],
] as const)("%s: one expected answer is one frame, at every split", (_, framing, traffic) => {
  const talk = traffic(3, seededRandom(5), "t");
  for (let turn = 0; turn < 5; turn += 1) {
    const { expected } = talk.next();
    const bytes = Buffer.concat([expected, expected]);
    const step = Math.max(1, Math.floor(expected.length / 50));
    for (let to = 0; to < expected.length; to += step) expect(framing(bytes, 0, to)).toBe("more");
    expect(framing(bytes, 0, bytes.length)).toBe(expected.length);
    expect(framing(bytes, expected.length, bytes.length)).toBe(bytes.length);
  }
});

test("bytes of no protocol are garbled", () => {
  const junk = Buffer.from("\x00\x00garbage\r\n\r\n");
  expect(frameHttp(junk, 0, junk.length)).toBe("garbled");
  expect(frameMqtt(junk, 0, junk.length)).toBe("garbled");
  // A question is none either: it has no mark of an answer.
  expect(frameDns(question(7, 1), 0, question(7, 1).length)).toBe("garbled");
});

test("the essence of an http answer leaves out what changes and nothing else", () => {
  const answer = (date: string, body: string): Buffer =>
    Buffer.from(`HTTP/1.1 200 OK\r\nDate: ${date}\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\n${body}`);
  expect(essenceOfHttp(answer("one", "ab"))).toBe(essenceOfHttp(answer("two", "ab")));
  expect(essenceOfHttp(answer("one", "ab"))).not.toBe(essenceOfHttp(answer("one", "ac")));
});

test("the essence of a dns answer is its id, its code, the name and the addresses", () => {
  const right = dnsTraffic(0, seededRandom(1), "").next().expected;
  const changed = (at: number, value: number): Uint8Array => Uint8Array.from(right).fill(value, at, at + 1);
  const [answerFlags, code, lifetime, address] = [4, 5, right.length - 7, right.length - 1];
  for (const harmless of [changed(answerFlags, 0x81), changed(lifetime, 9)])
    expect(essenceOfDns(harmless)).toBe(essenceOfDns(right));
  for (const wrong of [changed(address, 99), changed(2, ~right[2]! & 255), changed(code, 2)])
    expect(essenceOfDns(wrong)).not.toBe(essenceOfDns(right));
  expect([right, changed(code, 3), changed(code, 2)].map(refusedByDns)).toEqual([false, false, true]);
});

test("Wilson's interval: known values", () => {
  expect(wilsonInterval(0, 10).low).toBe(0);
  expect(wilsonInterval(0, 10).high).toBeCloseTo(0.2775, 3);
  expect(wilsonInterval(9, 10).low).toBeCloseTo(0.5958, 3);
  expect(wilsonInterval(9, 10).high).toBeCloseTo(0.9821, 3);
  expect(wilsonInterval(0, 0)).toEqual({ low: 0, high: 1 });
});
