// SPDX-License-Identifier: Apache-2.0
/**
 * Commands at a real Mosquitto: obeyed when they are signed by a key of the box, in date, new and allowed; everything else
 * is refused, leaves an audit event and changes nothing.
 */
import { describe, expect } from "bun:test";
import fc from "fast-check";
import { systemClock } from "#clock.ts";
import { vectors } from "#scripts/fleet/vectors.ts";
import { boxPair, fleetPair, operatorPair, seededPair } from "#scripts/fleet/vectorValues.ts";
import { type Command, signCommand } from "#telemetry/command.ts";
import type { KeyPair } from "#telemetry/keys.ts";
import { signGrant } from "#telemetry/rescueRecord.ts";
import { type KeyUse, TrustList } from "#telemetry/trust.ts";
import { openBox, type TestBox, type TestBoxOptions } from "#tests/peers/box.ts";
import { MemoryOutbox } from "#tests/peers/memoryOutbox.ts";
import { Mosquitto } from "#tests/peers/mosquitto.ts";
import { Observer } from "#tests/peers/observer.ts";
import { long, need } from "#tests/skip.ts";
import type { VerbJob } from "#verbs.ts";

const withBroker = need("mosquitto");
const adminA = seededPair(11);
const adminB = seededPair(12);
const viewer = seededPair(13);

const nowSeconds = (): number => Math.floor(systemClock.wallMs() / 1000);

type Scene = AsyncDisposable & {
  readonly broker: Mosquitto;
  readonly observer: Observer;
  readonly box: TestBox;
  readonly done: VerbJob[];
  /** Signs and sends; gives the job's end, as its retained topic tells it. */
  readonly ask: (pair: KeyPair, command: Partial<Command>, options?: object) => Promise<Record<string, unknown>>;
  readonly send: (pair: KeyPair, command: Partial<Command>, options?: object) => Promise<Uint8Array>;
  readonly end: (id: string, state?: string) => Promise<Record<string, unknown>>;
};

let counter = 0;
const nextId = (): string => {
  counter += 1;
  return `test-job-${counter}`;
};

/** A box that trusts an operator, two admins, a viewer and a fleet key, and whose appliance does every verb at once. */
async function scene(options: TestBoxOptions = {}): Promise<Scene> {
  const broker = await Mosquitto.start();
  const observer = await Observer.open(broker.url, ["holdfast/1/#"]);
  const outbox = options.outbox ?? new MemoryOutbox();
  outbox.putNote("session", "sid", "1");
  const trust = new TrustList(outbox);
  const keys: [KeyPair, KeyUse][] = [
    [operatorPair, "operate"],
    [adminA, "admin"],
    [adminB, "admin"],
    [viewer, "view"],
    [fleetPair, "fleet"],
  ];
  for (const [pair, use] of keys) {
    trust.add({ key: pair.public, use, name: use, notBefore: 0, expiresAt: nowSeconds() + 86_400 });
  }
  const box = openBox(broker.url, { ...options, outbox });
  const done: VerbJob[] = [];
  const stop = new AbortController();
  const appliance = (async () => {
    for await (const job of box.telemetry.requests(stop.signal)) {
      done.push(job);
      job.progress({ percent: 50, step: "half way" });
      if (job.request.args.w !== "stuck") await job.finish({ kind: "succeeded", result: { done: true } });
    }
  })().catch(() => {});
  await box.until("connected", () => box.telemetry.connected);
  await observer.until("online", (seen) => seen.find(({ topic }) => topic.endsWith("/state")));
  const send: Scene["send"] = async (pair, command, properties = {}) => {
    const whole: Command = {
      ...{ dev: "box-1", verb: "ping", args: {}, id: nextId(), ctr: counter, role: "view" },
      ...{ iat: nowSeconds(), exp: nowSeconds() + 60 },
      ...command,
    };
    const signed = signCommand(pair, whole);
    await observer.publish(`holdfast/1/${whole.dev}/cmd/${whole.verb}`, signed, properties);
    return signed;
  };
  const end: Scene["end"] = (id, state) =>
    observer.until(`the end of ${id}`, () =>
      observer
        .decoded(`holdfast/1/box-1/job/${id}`)
        .find(({ s }) => (state === undefined ? s !== "accepted" && s !== "running" : s === state)),
    );
  return {
    ...{ broker, observer, box, done, send, end },
    ask: async (pair, command, properties) => {
      const id = command.id ?? nextId();
      await send(pair, { ...command, id }, properties);
      return end(id);
    },
    async [Symbol.asyncDispose]() {
      stop.abort();
      await appliance;
      await box[Symbol.asyncDispose]();
      await observer[Symbol.asyncDispose]();
      await broker[Symbol.asyncDispose]();
    },
  };
}

const refusals = (box: TestBox): number =>
  box.feed.recorded("audit.refused").reduce((sum, facts) => sum + Number(facts.count), 0);

describe("obeyed", () => {
  withBroker("ping answers where it was asked; a restart is done with progress, result and audit", async () => {
    await using at = await scene();
    const mark = Buffer.from("77");
    const pinged = await at.ask(
      viewer,
      { id: "ping-0001" },
      { properties: { responseTopic: "holdfast/1/_rsp/op/1", correlationData: mark } },
    );
    expect(pinged).toMatchObject({ s: "succeeded", result: { sw: "0.1.0" }, by: viewer.public.id });
    const answer = await at.observer.until("the answer", (seen) =>
      seen.find(({ topic }) => topic.endsWith("_rsp/op/1")),
    );
    expect(answer.properties.correlationData).toEqual(mark);
    const job = await at.ask(operatorPair, { verb: "workload.restart", args: { w: "redis" }, role: "operate" });
    expect(job).toMatchObject({ s: "succeeded", result: { done: true }, step: "half way" });
    await at.observer.until("P/rsp", (seen) => seen.find(({ topic }) => topic === "holdfast/1/box-1/rsp"));
    expect(at.done.map(({ request }) => request)).toMatchObject([
      { verb: "workload.restart", args: { w: "redis" }, role: "operate" },
    ]);
    expect(at.box.feed.recorded("audit.command").length).toBe(2);
    expect(at.box.feed.recorded("audit.job")).toMatchObject([{ outcome: "succeeded" }, { outcome: "succeeded" }]);
    // The answer topic of a command is never one of the box's own or another's.
    await at.ask(viewer, {}, { properties: { responseTopic: "holdfast/1/box-2/cmd/ping" } });
    expect(at.observer.seen.some(({ topic }) => topic.includes("box-2"))).toBe(false);
  });

  withBroker("to all boxes only view verbs; rebirth, resend, jobs, cancel", async () => {
    await using at = await scene();
    at.box.feed.fault("redis");
    await at.observer.until("the outcome", (seen) => seen.find(({ topic }) => topic.endsWith("/e/suppress")));
    expect(await at.ask(viewer, { dev: "_all", verb: "ping", args: { jitter_s: 1 } })).toMatchObject({
      s: "succeeded",
    });
    expect(await at.ask(viewer, { verb: "rebirth" })).toMatchObject({ s: "succeeded" });
    expect(await at.ask(viewer, { verb: "resend", args: { from: 1, to: 3 } })).toMatchObject({ result: { events: 2 } });
    await at.observer.until(
      "the outcome again",
      (seen) => seen.filter(({ topic }) => topic.endsWith("/e/suppress")).length === 2,
    );
    const [first, again] = at.observer.decoded("holdfast/1/box-1/e/suppress");
    expect(again).toEqual(first!);
    await at.send(operatorPair, { id: "stuck-job-1", verb: "workload.restart", args: { w: "stuck" }, role: "operate" });
    await at.end("stuck-job-1", "running");
    const cancel = { verb: "cancel", args: { job: "stuck-job-1" }, role: "operate" } as const;
    expect(await at.ask(operatorPair, cancel)).toMatchObject({ s: "succeeded" });
    expect(await at.end("stuck-job-1")).toMatchObject({ s: "cancelled" });
    expect(at.done.at(-1)!.signal.aborted).toBe(true);
    expect(await at.ask(viewer, { verb: "jobs" })).toMatchObject({ s: "succeeded" });
  });

  withBroker("wipe and admin keys need two admins on the same id", async () => {
    await using at = await scene();
    const wipe = { id: "wipe-the-box", verb: "wipe", role: "admin" } as const;
    await at.send(adminA, wipe);
    await at.end("wipe-the-box", "accepted");
    await at.send(adminA, { ...wipe, ctr: 900 });
    expect(at.done).toEqual([]);
    await at.send(adminB, wipe);
    expect(await at.end("wipe-the-box")).toMatchObject({ s: "succeeded" });
    expect(at.done.map(({ request }) => request.verb)).toEqual(["wipe"]);
    const newcomer = seededPair(20);
    const grant = { id: "grant-admin-1", verb: "keys.grant", role: "admin" } as const;
    const args = (role: string) => ({ pub: newcomer.public.raw, role, name: "new" });
    await at.send(adminA, { ...grant, args: args("admin") });
    await at.end("grant-admin-1", "accepted");
    // The second admin must ask for the same thing.
    await at.send(adminB, { ...grant, args: args("operate") });
    await at.send(adminB, { ...grant, args: args("admin"), ctr: 901 });
    // The id of the second key was used up by its first word.
    const operate = { ...grant, id: "grant-operate", args: args("operate") };
    expect(await at.ask(adminA, operate)).toMatchObject({ s: "succeeded", result: { kid: newcomer.public.id } });
    expect(new TrustList(at.box.outbox).find(newcomer.public.id)).toMatchObject({ use: "operate" });
    expect(
      await at.ask(adminA, {
        verb: "keys.revoke",
        args: { kid: Uint8Array.fromHex(newcomer.public.id) },
        role: "admin",
      }),
    ).toMatchObject({ s: "succeeded" });
    expect(new TrustList(at.box.outbox).find(newcomer.public.id)).toBeNull();
    const boxGrant = { key: { ...boxPair.public }, device: "box-1", notBefore: 0, expiresAt: nowSeconds() + 999 };
    expect(
      await at.ask(adminA, { verb: "keys.grant", args: { grant: signGrant(fleetPair, boxGrant) }, role: "admin" }),
    ).toMatchObject({ s: "failed" });
  });
});

describe("refused", () => {
  withBroker(
    "replayed, retained, late, early, of another role, box, key or time: an audit event, and nothing is done",
    async () => {
      await using at = await scene();
      const restart = { verb: "workload.restart", args: { w: "redis" }, role: "operate" } as const;
      const signed = await at.send(operatorPair, { ...restart, id: "restart-0001" });
      await at.end("restart-0001");
      const topic = "holdfast/1/box-1/cmd/workload.restart";
      await at.observer.publish(topic, signed);
      await at.observer.publish(topic, signed, { retain: true });
      await at.observer.publish("holdfast/1/box-1/cmd/workload.hold", signed);
      await at.observer.publish("holdfast/1/_all/cmd/workload.restart", signed);
      await at.observer.publish("holdfast/1/box-1/cmd/nonsense", signed);
      const again = (state: string, command: Partial<Command>, pair = operatorPair): Promise<void> =>
        at.ask(pair, { ...restart, ...command }).then((job) => expect(job).toMatchObject({ s: state }));
      await again("expired", { iat: nowSeconds() - 600, exp: nowSeconds() - 5 });
      await again("rejected", { iat: nowSeconds() + 2000, exp: nowSeconds() + 2060 });
      await again("rejected", { exp: nowSeconds() + 7200 });
      await again("rejected", { role: "view" });
      await again("rejected", {}, viewer);
      await again("rejected", { verb: "wipe", args: {}, role: "operate" });
      await at.send(boxPair, restart);
      await at.send(fleetPair, restart);
      await at.ask(operatorPair, { ctr: 5000 });
      await at.send(operatorPair, { ...restart, ctr: 5000, id: "same-counter" });
      await at.send(operatorPair, { ...restart, ctr: 4900, id: "old-counter" });
      await at.ask(viewer, { id: "the-last-one" });
      expect(at.done.map(({ request }) => request.id)).toEqual(["restart-0001"]);
      expect(at.box.feed.recorded("audit.refused").length).toBe(1);
      expect(at.observer.decoded("holdfast/1/box-1/job/same-counter")).toEqual([]);
      await at.observer.publish(topic, "", { retain: true });
    },
    30_000,
  );

  withBroker("more than ten a minute of one key", async () => {
    await using at = await scene();
    for (let sent = 1; sent <= 12; sent += 1) await at.send(viewer, { id: `many-pings-${sent}` });
    await at.ask(operatorPair, { id: "from-another" });
    const jobs = at.observer.decoded("holdfast/1/box-1/job/many-pings-").filter(({ s }) => s === "succeeded");
    expect(new Set(jobs.map(({ id }) => id)).size).toBe(10);
  });

  withBroker(
    "every refusal of the vectors and any bytes: nothing is done, memory of them is one audit event",
    async () => {
      await using at = await scene();
      for (const { hex, refused } of vectors()) {
        if (refused !== undefined)
          await at.observer.publish("holdfast/1/box-1/cmd/workload.restart", Uint8Array.fromHex(hex));
      }
      const bytes = fc.oneof(fc.uint8Array({ maxLength: 300 }), fc.constant(new Uint8Array(9000).fill(0x81)));
      const good = await at.send(operatorPair, {
        id: "good-restart",
        verb: "workload.restart",
        args: { w: "redis" },
        role: "operate",
      });
      await at.end("good-restart");
      const flipped = fc.nat(good.length * 8 - 1).map((bit) => {
        const copy = new Uint8Array(good);
        copy[bit >> 3]! ^= 1 << (bit & 7);
        return copy;
      });
      await fc.assert(
        fc.asyncProperty(fc.oneof(bytes, flipped), async (payload) => {
          await at.observer.publish("holdfast/1/box-1/cmd/workload.restart", payload);
        }),
        { numRuns: long("fuzz") ? 20_000 : 300, verbose: true },
      );
      await at.ask(viewer, { id: "still-alive-1" });
      expect(at.done.map(({ request }) => request.id)).toEqual(["good-restart"]);
      expect(at.box.feed.recorded("audit.refused").length).toBe(1);
      expect(at.box.telemetry.connected).toBe(true);
      expect(refusals(at.box)).toBeGreaterThan(0);
    },
    120_000,
  );

  withBroker("admin verbs while the clock is unknown; other verbs by their counter alone", async () => {
    await using at = await scene({ more: { clockKnown: () => false } });
    const late = { iat: nowSeconds() - 86_400, exp: nowSeconds() - 86_000 };
    expect(await at.ask(viewer, late)).toMatchObject({ s: "succeeded" });
    expect(
      await at.ask(adminA, { ...late, verb: "keys.revoke", args: { kid: new Uint8Array(8) }, role: "admin" }),
    ).toMatchObject({ s: "rejected" });
  });

  withBroker(
    "a command that the disk does not take: no acknowledgement that counts, and it is not obeyed",
    async () => {
      await using at = await scene({ broker: { keepAliveMs: 10_000, ackMs: 10_000 } });
      const release = at.box.outbox.hold();
      await at.send(operatorPair, {
        id: "while-blind-1",
        verb: "workload.restart",
        args: { w: "redis" },
        role: "operate",
      });
      expect(await at.end("while-blind-1")).toMatchObject({ s: "failed" });
      release();
      expect(at.done).toEqual([]);
    },
    30_000,
  );
});

describe("jobs", () => {
  withBroker(
    "outlive a restart: interrupted ones have failed, a reboot has succeeded; only eight stay retained",
    async () => {
      const outbox = new MemoryOutbox();
      {
        await using at = await scene({ outbox });
        await at.send(operatorPair, {
          id: "interrupted-1",
          verb: "workload.restart",
          args: { w: "stuck" },
          role: "operate",
        });
        await at.end("interrupted-1", "running");
        for (let index = 0; index < 9; index += 1)
          await at.ask([viewer, adminA][index % 2]!, { id: `ping-number-${index}` });
      }
      await using at = await scene({ outbox });
      expect(await at.end("interrupted-1")).toMatchObject({ s: "failed" });
      await at.box.until("all sent", () => at.box.outbox.depth("event").rows === 0);
      await using late = await Observer.open(at.broker.url, ["holdfast/1/box-1/job/#"]);
      await late.until("the newest", (seen) => seen.find(({ topic }) => topic.endsWith("ping-number-8")));
      expect(new Set(late.seen.map(({ topic }) => topic)).size).toBeLessThanOrEqual(9);
    },
    40_000,
  );
});
