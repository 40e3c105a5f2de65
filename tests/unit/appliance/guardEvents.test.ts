// SPDX-License-Identifier: Apache-2.0
/**
 * The guard's line contract: what fits is read, what breaks it is named, what was added later is left alone.
 */
import { expect, test } from "bun:test";
import { readGuardLine } from "#appliance/demo/guardEvents.ts";

const frames = [{ pc: "0x1", module: "/usr/bin/x", offset: "0x2", symbol: "f" }];
const session = { fd: 9, peer: "127.0.0.1:5", confidence: 0.9 };
const good = [
  { event: "guarding", workload: "w", pid: 7, threads: 4 },
  { event: "fault", id: "1", signal: "SIGSEGV", thread: 7, site: "a+0x1", frames },
  { event: "fault", id: "1", signal: "SIGABRT", thread: 7, site: "", frames: [], note: "a field added later" },
  { event: "outcome", id: "1", rung: "abandon", verdict: "clean", stopUs: 900, session: null },
  { event: "outcome", id: "1", rung: "quarantine", verdict: "failed", stopUs: 0, session },
  { event: "exit", workload: "w", code: 0, signal: null },
  { event: "exit", workload: "w", code: null, signal: "SIGKILL" },
];
const bad = [
  { event: "guarding", workload: "w", pid: "7", threads: 4 },
  { event: "fault", id: 1, signal: "SIGSEGV", thread: 7, site: "", frames: [] },
  { event: "fault", id: "1", signal: "11", thread: 7, site: "", frames: [] },
  { event: "fault", id: "1", signal: "SIGSEGV", thread: 7, site: "", frames: [{}] },
  { event: "outcome", id: "1", rung: "Abandon", verdict: "clean", stopUs: 1, session: null },
  { event: "outcome", id: "1", rung: "abandon", verdict: "ok", stopUs: 1, session: null },
  { event: "outcome", id: "1", rung: "abandon", verdict: "clean", stopUs: 1.5, session: null },
  { event: "outcome", id: "1", rung: "abandon", verdict: "clean", stopUs: 1 },
  { event: "outcome", id: "1", rung: "abandon", verdict: "clean", stopUs: 1, session: { fd: 1 } },
  { event: "exit", workload: "w", code: null },
  { noEvent: true },
  [],
  null,
];

test.each(good.map((event) => [event]))("%j is an event", (event) => {
  expect(readGuardLine(JSON.stringify(event))).toEqual({ kind: "event", event: event as never });
});

test.each(bad.map((event) => [event]))("%j breaks the contract", (event) => {
  expect(readGuardLine(JSON.stringify(event)).kind).toBe("violation");
});

test("a line that is no JSON breaks the contract, an event of another name does not", () => {
  expect(readGuardLine("oops").kind).toBe("violation");
  expect(readGuardLine('{"event":"demoLoad","right":1}')).toEqual({ kind: "other", name: "demoLoad" });
});
