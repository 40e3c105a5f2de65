// SPDX-License-Identifier: Apache-2.0
/** Journal rows as events: stable ids, gaps visible, nothing private, time as good as it is known. */
import { expect, test } from "bun:test";
import fc from "fast-check";
import * as v from "valibot";
import type { FaultId, Outcome, TrialId } from "#fault.ts";
import { stamp, withMark } from "#telemetry/bootTime.ts";
import { encodeCbor } from "#telemetry/cbor.ts";
import {
  bootEvent,
  type EventContext,
  type EventState,
  maskAddresses,
  restamped,
  translate,
} from "#telemetry/events.ts";
import type { FeedRow } from "#telemetry/feed.ts";
import { eventSchema, outcomeKeys, readPayload } from "#telemetry/payloads.ts";

const context: EventContext = { device: "box-1", marks: [{ boot: "b1", n: 0, jumpMs: 0 }], usedFleet: () => true };
const start: EventState = { lastN: 0, boot: "b1", workloads: new Map() };
const fault: FeedRow = {
  kind: "fault",
  n: 7,
  atMs: 1_700_000_000_123,
  id: "f1" as FaultId,
  workload: "redis",
  signal: "SIGSEGV",
  site: { fault: "aa+0x1", boundary: "" },
  threadName: "io_thd_1",
};
const outcome = (verdict: Outcome["verdict"], rung: Outcome["rung"]): FeedRow => ({
  kind: "outcome",
  n: 9,
  atMs: 1_700_000_002_000,
  outcome: {
    fault: "f1" as FaultId,
    trial: "f1.1" as TrialId,
    rung,
    verdict,
    evidence: ["client 10.1.2.3:4567 was cut"],
    stopUs: 812.4,
    probationMs: 2000,
    session: { fd: 9, peer: "10.1.2.3:4567", confidence: 0.9 },
  },
});

function translateAll(rows: readonly FeedRow[], from = start) {
  let state = from;
  return rows.flatMap((row) => {
    const step = translate(row, state, context);
    state = step.state;
    return step.message === null ? [] : [step.message];
  });
}

test("a fault and its outcome, in the contract's form", () => {
  const silent: FeedRow = { kind: "silent", n: 8, atMs: 0 };
  const [first, second] = translateAll([fault, silent, outcome("clean", "quarantine")]);
  const read = readPayload(eventSchema, encodeCbor(first!.payload));
  expect(read).toMatchObject({ class: "fault", n: 7, pn: 0, w: "redis", sig: "segv", site: { fault: "aa+0x1" } });
  const verdict = readPayload(eventSchema, encodeCbor(second!.payload));
  expect(verdict).toMatchObject({ class: "suppress", n: 9, pn: 7, w: "redis", cut: 1, fleet: true });
  expect(v.is(outcomeKeys, verdict)).toBe(true);
  expect(JSON.stringify(verdict)).not.toContain("10.1.2.3");
});

test("a restored guest is of another class, a failure is more severe", () => {
  const [restored] = translateAll([outcome("failed", "restore")]);
  expect(restored).toMatchObject({ class: "restore", rank: 3, payload: { sev: 3, cut: 0 } });
});

test("the same row has the same id on one box and another id on another", () => {
  const [first] = translateAll([fault]);
  const [again] = translateAll([fault], { ...start, lastN: 6 });
  const other = translate(fault, start, { ...context, device: "box-2" }).message;
  expect(again!.payload.id).toBe(first!.payload.id!);
  expect(other!.payload.id).not.toBe(first!.payload.id!);
});

test("times of a boot are corrected once its clock is known", () => {
  const boot: FeedRow = {
    kind: "event",
    n: 1,
    atMs: 5000,
    id: "e",
    event: bootEvent,
    workload: "",
    facts: { boot: "b2" },
  };
  const [, guess] = translateAll([boot, fault]);
  expect(guess!.payload).toMatchObject({ boot: "b2", q: "guess", t: fault.atMs });
  const marks = withMark(context.marks, { boot: "b2", n: 8, jumpMs: 1000 });
  expect(restamped(guess!.payload, 7, marks)).toMatchObject({ q: "fixed", t: fault.atMs + 1000 });
  expect(stamp(1, 9, "b2", marks)).toEqual({ atMs: 1, quality: "synced" });
  expect(restamped(guess!.payload, 7, context.marks)).toBe(guess!.payload);
});

test("facts are cut, and addresses in them are masked", () => {
  const facts = {
    text: "from 192.168.1.20:5000 and [fe80::1]:22 and 2001:db8:0:0:1:2:3:4",
    version: "1.2.3",
    severity: 3,
  };
  const row: FeedRow = { kind: "event", n: 1, atMs: 1, id: "e", event: "health.disk", workload: "", facts };
  const [message] = translateAll([row]);
  expect(message).toMatchObject({ class: "health", rank: 2, payload: { sev: 3, name: "health.disk" } });
  expect(message!.payload.facts).toEqual({ text: "from ADDRESS and ADDRESS and ADDRESS", version: "1.2.3" });
});

test("no address survives the mask", () => {
  fc.assert(
    fc.property(
      fc.oneof(
        fc.ipV4(),
        fc.ipV4().map((ip) => `${ip}:6379`),
        fc.ipV6().map((ip) => `[${ip}]:80`),
      ),
      (peer) => {
        expect(maskAddresses(`client ${peer} gone`)).not.toContain(peer);
      },
    ),
    { verbose: true },
  );
});

test("any facts make an event that can be read", () => {
  const facts = fc.dictionary(fc.string(), fc.oneof(fc.string(), fc.double(), fc.boolean(), fc.constant(null)), {
    noNullPrototype: true,
  });
  fc.assert(
    fc.property(fc.string(), facts, (event, some) => {
      const row: FeedRow = { kind: "event", n: 3, atMs: 1, id: "e", event, workload: "", facts: some };
      const [message] = translateAll([row]);
      expect(readPayload(eventSchema, encodeCbor(message!.payload)).n).toBe(3);
    }),
    { verbose: true },
  );
});
