// SPDX-License-Identifier: Apache-2.0
/** The small pure parts of a session: waits, packet heads, counters, paces, late times, the view of a fleet. */
import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { ManualClock, seededRandom } from "#clock.ts";
import { nextWaitMs } from "#telemetry/backoff.ts";
import { decodeCborMap, encodeCbor } from "#telemetry/cbor.ts";
import { restampMessage } from "#telemetry/encoding.ts";
import { FleetView } from "#telemetry/fleetView.ts";
import { FrameGuard } from "#telemetry/frameGuard.ts";
import { argumentsFrom } from "#telemetry/operator.ts";
import type { OutMessage } from "#telemetry/outbox.ts";
import { Pace } from "#telemetry/pace.ts";
import { RefusalAudit } from "#telemetry/refusals.ts";
import { isNew, noCounters, readWindow, withCounter, writeWindow } from "#telemetry/replay.ts";
import { decodePack, encodePacks } from "#telemetry/senml.ts";
import { brokerAddress, brokerDefaults, reconnectDefaults } from "#telemetry/settings.ts";
import { FleetTopics } from "#telemetry/topics.ts";

describe("waits between connects", () => {
  test("stay within their bounds; a busy broker is left alone; our own wish is not a wait", () => {
    const random = seededRandom(1);
    for (let wait = 0, turn = 0; turn < 500; turn += 1) {
      wait = nextWaitMs(wait, { kind: "refused", connectedMs: 0 }, reconnectDefaults, random);
      expect(wait >= 1000 && wait <= 300_000).toBe(true);
    }
    expect(nextWaitMs(5, { kind: "busy", connectedMs: 0 }, reconnectDefaults, random)).toBeGreaterThanOrEqual(60_000);
    expect(nextWaitMs(9e9, { kind: "restart", connectedMs: 0 }, reconnectDefaults, random)).toBe(0);
    expect(nextWaitMs(300_000, { kind: "closed", connectedMs: 61_000 }, reconnectDefaults, random)).toBeLessThan(3001);
  });
  test("a thousand boxes come back spread out", () => {
    const random = seededRandom(7);
    const perSecond = new Map<number, number>();
    for (let box = 0; box < 1000; box += 1) {
      let atMs = 0;
      for (let wait = 0; atMs < 60_000; atMs += wait)
        wait = nextWaitMs(wait, { kind: "refused", connectedMs: 0 }, reconnectDefaults, random);
      const second = Math.floor(atMs / 1000);
      perSecond.set(second, (perSecond.get(second) ?? 0) + 1);
    }
    expect(Math.max(...perSecond.values())).toBeLessThan(100);
  });
});

describe("packet heads", () => {
  /** A packet of this many bytes behind its head. */
  const packet = (length: number): Uint8Array => {
    const head = [0x30];
    for (let left = length; ; left >>= 7) {
      head.push((left & 0x7f) | (left > 0x7f ? 0x80 : 0));
      if (left <= 0x7f) return new Uint8Array([...head, ...new Uint8Array(length)]);
    }
  };
  test("in any split, all small packets pass and the first large one does not", () => {
    const sizes = fc.array(fc.integer({ min: 0, max: 300 }), { maxLength: 12 });
    fc.assert(
      fc.property(sizes, fc.integer({ min: 1, max: 40 }), fc.boolean(), (lengths, chunk, large) => {
        const stream = Buffer.concat([...lengths.map(packet), ...(large ? [packet(301)] : [])]);
        const guard = new FrameGuard(300);
        let passed = true;
        for (let at = 0; at < stream.length; at += chunk) passed = guard.accepts(stream.subarray(at, at + chunk));
        expect(passed).toBe(!large);
      }),
      { verbose: true },
    );
  });
  test("a length that never ends is none", () => {
    expect(new FrameGuard(1e9).accepts(new Uint8Array([0x30, 0xff, 0xff, 0xff, 0xff]))).toBe(false);
  });
});

describe("counters", () => {
  test("each is taken once, and none far below the newest", () => {
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 0, max: 400 }), { maxLength: 200 }), (counters) => {
        let window = noCounters;
        const taken = new Set<number>();
        let newest = -1;
        for (const counter of counters) {
          const fresh = isNew(window, counter);
          expect(fresh).toBe(!taken.has(counter) && counter > newest - 64);
          if (!fresh) continue;
          window = readWindow(writeWindow(withCounter(window, counter)));
          taken.add(counter);
          newest = Math.max(newest, counter);
        }
      }),
      { verbose: true },
    );
  });
  test("a damaged window lets nothing in", () => {
    expect(isNew(readWindow("nonsense"), 5)).toBe(false);
    expect(isNew(readWindow(null), 0)).toBe(true);
  });
});

test("a pace gives a second's worth at once, then its rate", async () => {
  const clock = new ManualClock();
  const pace = new Pace(20, clock);
  let taken = 0;
  while (pace.take()) taken += 1;
  expect(taken).toBe(20);
  expect(pace.waitMs()).toBe(50);
  await clock.advance(1000);
  while (pace.take()) taken += 1;
  expect(taken).toBe(40);
  expect(new Pace(0, clock).take()).toBe(true);
});

test("refusals are told once a minute, with their number", () => {
  const audit = new RefusalAudit();
  audit.note("key", { verb: "ping" });
  expect(audit.take(0)).toMatchObject({ count: 1, verb: "ping" });
  for (let index = 0; index < 1000; index += 1) audit.note(index % 4 === 0 ? "counter" : "key", { verb: "wipe" });
  expect(audit.take(59_000)).toBeNull();
  expect(audit.take(60_001)).toMatchObject({ count: 1000, why: "key 750, counter 250", verb: "wipe" });
  expect(audit.take(200_000)).toBeNull();
});

test("times of queued messages are corrected once the clock is known, in every encoding", () => {
  const marks = [{ boot: "b", n: 10, jumpMs: 5000 }];
  const shared = { id: "i", rank: 1, topic: "t", atMs: 1000, boot: "b", quality: "guess" } as const;
  const event = { v: 1, n: 3, t: 1000, q: "guess", boot: "b" };
  const queued: OutMessage = { ...shared, lane: "event", n: 3, schema: "event/1.0", payload: encodeCbor(event) };
  const fixed = restampMessage(queued, marks);
  expect(decodeCborMap(fixed.payload, 1000)).toMatchObject({ t: 6000, q: "fixed" });
  const json = restampMessage({ ...queued, payload: new TextEncoder().encode(JSON.stringify(event)) }, marks);
  expect(JSON.parse(new TextDecoder().decode(json.payload))).toMatchObject({ t: 6000, q: "fixed" });
  const [pack] = encodePacks("d", 1000, [{ kind: "value", name: "self_open_fds", labels: [], value: 1 }]);
  const metric = restampMessage({ ...queued, lane: "metric", n: 0, schema: "senml/1.0", payload: pack! }, marks);
  expect(decodePack(metric.payload)[0]!.atMs).toBe(6000);
  expect(restampMessage(queued, [])).toBe(queued);
});

test("a view of a fleet: states, alarms, faults once each; what cannot be read changes nothing", () => {
  const view = new FleetView(new FleetTopics("holdfast"));
  const say = (topic: string, payload: Uint8Array | string, retained = false): void =>
    view.take(
      `holdfast/1/${topic}`,
      typeof payload === "string" ? new TextEncoder().encode(payload) : payload,
      retained,
      5000,
    );
  say("a/state", '{"v":1,"s":"online","sid":4,"boot":"b","health":"degraded"}', true);
  say("b/state", '{"v":1,"s":"lost","sid":2,"boot":"b"}');
  say("a/state", '{"v":1,"s":"lost","sid":3,"boot":"b"}');
  say("c/state", '{"v":1,"s":"online","sid":1,"boot":"b"}', true);
  say("c/state", '{"v":1,"s":"lost","sid":1,"boot":"b"}', true);
  const id = "019d2b3e-5a80-7c3e-8f00-0123456789ab";
  const fault = encodeCbor({
    v: 1,
    id,
    n: 1,
    pn: 0,
    boot: "b",
    t: 1,
    q: "synced",
    sev: 2,
    class: "fault",
    w: "redis",
    sig: "segv",
  });
  say("a/e/fault", fault);
  say("a/e/fault", fault);
  say("a/e/fault", new Uint8Array([1, 2, 3]));
  say("_all/cmd/ping", fault);
  const alarm = encodeCbor({ v: 1, alarm: "disk.low", sev: 2, since: 1, cause: "", effect: "", fix: "" });
  say("a/a/disk.low", alarm);
  expect(view.rows()).toMatchObject([
    { device: "b", state: "lost", sinceMs: 5000 },
    { device: "c", state: "lost", sinceMs: 5000 },
    {
      device: "a",
      state: "online",
      sinceMs: null,
      health: "degraded",
      faults: 1,
      alarms: ["disk.low"],
      last: "redis segv",
    },
  ]);
  say("a/a/disk.low", "");
  expect(view.rows()[1]!.alarms).toEqual([]);
  expect(view.unreadable).toBe(1);
});

describe("words of an operator", () => {
  test("become what the verb takes", () => {
    expect(argumentsFrom("workload.restart", ["w=123"])).toEqual({ w: "123" });
    expect(argumentsFrom("maintenance", ["on=true", "for_s=60"])).toEqual({ on: true, for_s: 60 });
    expect(argumentsFrom("config.set", ["set.a.b=7", "set.c=x", "revert_s=60"])).toEqual({
      set: { "a.b": 7, c: "x" },
      revert_s: 60,
    });
    expect(argumentsFrom("keys.revoke", ["kid=0011223344556677"]).kid).toHaveLength(8);
    expect(() => argumentsFrom("ping", ["x"])).toThrow("NAME=VALUE");
    expect(() => argumentsFrom("keys.revoke", ["kid=zz"])).toThrow("hex");
  });
});

test("the broker's address must be safe or wanted", () => {
  const broker = { ...brokerDefaults, url: "mqtt://10.0.0.1" };
  expect(() => brokerAddress(broker)).toThrow("plaintext");
  expect(brokerAddress({ ...broker, plaintext: true }).hostname).toBe("10.0.0.1");
  expect(brokerAddress({ ...broker, url: "mqtt://localhost:1883" }).port).toBe("1883");
  for (const url of ["", "http://broker.example", "mqtts://user:secret@broker.example"])
    expect(() => brokerAddress({ ...broker, url })).toThrow();
});
