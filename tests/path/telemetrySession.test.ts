// SPDX-License-Identifier: Apache-2.0
/**
 * A box at a real Mosquitto: what it says of itself, over every transport, and through every illness of a broker. Nothing
 * waits for time: each test waits for a message or for an end.
 */
import { describe, expect } from "bun:test";
import { boxFacts, openBox, testBroker } from "#tests/peers/box.ts";
import { Authority } from "#tests/peers/certificates.ts";
import { MemoryOutbox } from "#tests/peers/memoryOutbox.ts";
import { Mosquitto } from "#tests/peers/mosquitto.ts";
import { Observer, type Seen } from "#tests/peers/observer.ts";
import { need } from "#tests/skip.ts";

const withBroker = need("mosquitto");
const withTls = need("mosquitto", "openssl");
const everything = ["holdfast/1/#"];

const text = (message: Seen): string => new TextDecoder().decode(message.payload);
const states = (seen: readonly Seen[]): { s: string; sid: number; health: string }[] =>
  seen.filter(({ topic }) => topic.endsWith("/state")).map((message) => JSON.parse(text(message)));
const lastState = (seen: readonly Seen[]) => states(seen).at(-1);

/** An outbox of a box that was connected before: it does not wait for the broker's memory of it. */
function usedOutbox(sid = 1): MemoryOutbox {
  const outbox = new MemoryOutbox();
  outbox.putNote("session", "sid", String(sid));
  return outbox;
}

describe("the words of a box", () => {
  withBroker("birth, state, events, live metrics, an alarm and its end, and a farewell", async () => {
    await using broker = await Mosquitto.start();
    await using observer = await Observer.open(broker.url, everything);
    const box = openBox(broker.url, { settings: { encoding: "both", discovery: true } });
    box.telemetry.birth(boxFacts);
    box.telemetry.config({ "telemetry.root": "holdfast", "telemetry.password": "hunter2" }, false);
    box.telemetry.raise("disk.low", { sev: 2, cause: "c", effect: "e", fix: "f" });
    box.feed.fault("redis");
    await observer.until("the outcome", (seen) => seen.find(({ topic }) => topic.endsWith("box-1/e/suppress")));
    await observer.until("the alarm", (seen) => seen.find(({ topic }) => topic.endsWith("/json/a/disk.low")));
    box.telemetry.metrics({ group: "link", atMs: 1_795_366_800_000, samples: box.telemetry.samples() });
    await observer.until("metrics", (seen) => seen.find(({ topic }) => topic.endsWith("/json/m/link")));
    box.telemetry.clear("disk.low");
    box.telemetry.health("attention");
    await observer.until("attention", (seen) => lastState(seen)?.health === "attention");
    await observer.until("the end of the alarm", (seen) =>
      seen.find(({ topic, payload }) => topic.endsWith("/a/disk.low") && payload.length === 0),
    );
    await box[Symbol.asyncDispose]();
    expect(await observer.until("offline", (seen) => lastState(seen)?.s === "offline")).toBe(true);
    const [birth] = observer.decoded("holdfast/1/box-1/birth");
    expect(birth).toMatchObject({ v: 1, rev: 1, sw: "0.1.0", counters: { kind: "none" } });
    expect(JSON.stringify(observer.seen.map(text))).not.toContain("hunter2");
    const schemas = observer.seen.map(({ properties }) => (properties.userProperties as { schema: string }).schema);
    expect(schemas.every((schema) => /^[a-z]+\/1\.0$/.test(schema))).toBe(true);
    await using late = await Observer.open(broker.url, ["homeassistant/#", ...everything]);
    await late.until("discovery", (seen) => seen.find(({ topic }) => topic === "homeassistant/device/box-1/config"));
    // What is retained is the newest of each topic, and a cleared alarm is gone.
    expect(late.seen.every(({ retain }) => retain)).toBe(true);
    expect(late.seen.some(({ topic }) => topic.endsWith("/a/disk.low"))).toBe(false);
  });

  withBroker(
    "its session number rises; a foreign word and a stale will are overwritten; a lost database goes on",
    async () => {
      await using broker = await Mosquitto.start();
      await using observer = await Observer.open(broker.url, everything);
      const outbox = usedOutbox(6);
      {
        await using box = openBox(broker.url, { outbox });
        await observer.until("online", (seen) => lastState(seen)?.sid === 7);
        expect(box.telemetry.connected).toBe(true);
      }
      await observer.until("offline", (seen) => lastState(seen)?.s === "offline");
      await using again = openBox(broker.url, { outbox: new MemoryOutbox() });
      // The database is gone, the broker remembers session 7.
      await observer.until(
        "a later session",
        (seen) => (lastState(seen)?.sid ?? 0) >= 8 && lastState(seen)?.s === "online",
      );
      await observer.publish("holdfast/1/box-1/state", '{"v":1,"s":"lost","sid":3,"boot":"x"}', { retain: true });
      const repeated = await observer.until("our words again", (seen) => {
        const all = states(seen);
        const lost = all.findLastIndex(({ sid }) => sid === 3);
        return lost >= 0 && all[lost + 1];
      });
      expect(repeated).toMatchObject({ s: "online" });
      expect(again.telemetry.connected).toBe(true);
    },
    30_000,
  );

  withBroker("a broker that restarts without persistence hears everything retained again", async () => {
    await using broker = await Mosquitto.start();
    await using box = openBox(broker.url, { outbox: usedOutbox() });
    box.telemetry.birth(boxFacts);
    await using observer = await Observer.open(broker.url, everything);
    await observer.until("birth", (seen) => seen.find(({ topic }) => topic.endsWith("/birth")));
    await broker.kill();
    await broker.start();
    await using fresh = await Observer.open(broker.url, everything);
    await fresh.until("birth again", (seen) => seen.find(({ topic }) => topic.endsWith("/birth")));
    await fresh.until("state again", (seen) => lastState(seen)?.sid === 3);
  });

  withBroker("killed without a word, the will is said, with its session number", async () => {
    await using broker = await Mosquitto.start();
    await using observer = await Observer.open(broker.url, everything);
    const child = Bun.spawn([process.execPath, `${import.meta.dir}/../peers/boxProcess.ts`, broker.url], {
      stdin: "ignore",
      stdout: "ignore",
      stderr: "inherit",
    });
    await observer.until("online", (seen) => lastState(seen)?.s === "online");
    child.kill("SIGKILL");
    await child.exited;
    await observer.until("lost", (seen) => lastState(seen)?.s === "lost");
    expect(lastState(observer.seen)).toEqual({ v: 1, s: "lost", sid: 1, boot: "boot-1" } as never);
  });
});

describe("transports", () => {
  withBroker("MQTT 3.1.1, and WebSocket", async () => {
    await using broker = await Mosquitto.start({ websockets: true });
    await using observer = await Observer.open(broker.url, everything);
    await using old = openBox(broker.url, { device: "old", outbox: usedOutbox(), broker: { protocol: "3.1.1" } });
    const url = `ws://127.0.0.1:${broker.websocketPort}/mqtt`;
    await using web = openBox(url, { device: "web", outbox: usedOutbox() });
    for (const box of [old, web]) {
      box.feed.fault("redis");
      const { device } = box.telemetry.topics;
      await observer.until(`event of ${device}`, (seen) =>
        seen.find(({ topic }) => topic.includes(`/${device}/e/suppress`)),
      );
    }
  });

  withTls("TLS with client certificates; a wrong one is refused, said and survived", async () => {
    using fleet = new Authority();
    using strangers = new Authority("strangers");
    const server = fleet.issue("server");
    const mine = { authority: fleet.authority, ...fleet.issue("box-1") };
    const wrong = { authority: fleet.authority, ...strangers.issue("box-1") };
    const foreign = { authority: strangers.authority, ...fleet.issue("box-1") };
    await using broker = await Mosquitto.start({
      listener: [
        ...[`cafile ${fleet.file}`, `certfile ${server.certificateFile}`, `keyfile ${server.keyFile}`],
        ...["require_certificate true", "use_identity_as_username true", "tls_version tlsv1.2"],
      ],
    });
    const url = `mqtts://127.0.0.1:${broker.port}`;
    const { authority: ca, certificate: cert, privateKey: key } = { ...mine };
    await using observer = await Observer.open(url, everything, { ca, cert, key });
    for (const certificates of [wrong, foreign]) {
      await using refused = openBox(url, { device: "refused", outbox: usedOutbox(), broker: certificates });
      refused.feed.fault("redis");
      await refused.until("refused", () =>
        refused.telemetry.alarms.some(({ alarm }) => alarm === "broker.unreachable"),
      );
      expect(refused.telemetry.connected).toBe(false);
      await refused.until("the event waits", () => refused.outbox.depth("event").rows > 0);
    }
    await using box = openBox(url, { outbox: usedOutbox(), broker: mine });
    box.feed.fault("redis");
    await observer.until("the event", (seen) => seen.find(({ topic }) => topic.endsWith("/e/suppress")));
    expect(observer.seen.some(({ topic }) => topic.includes("/refused/"))).toBe(false);
    // A certificate that ends within a month is an alarm: ours are valid for a day.
    expect(box.telemetry.alarms.map(({ alarm }) => alarm)).toContain("certificate.ends");
  });
});

describe("an ill broker", () => {
  withBroker(
    "frozen: the connection is given up, what was live comes later, nothing is lost",
    async () => {
      await using broker = await Mosquitto.start();
      await using observer = await Observer.open(broker.url, everything);
      await using box = openBox(broker.url, { outbox: usedOutbox() });
      await observer.until("online", (seen) => lastState(seen)?.s === "online");
      broker.freeze();
      box.feed.fault("redis");
      box.telemetry.metrics({
        group: "self",
        atMs: 1_795_366_800_000,
        samples: [{ kind: "value", name: "self_open_fds", labels: [], value: 9 }],
      });
      await box.until("the connection given up", () => !box.telemetry.connected);
      broker.thaw();
      await observer.until("the event", (seen) => seen.find(({ topic }) => topic.endsWith("/e/suppress")));
      await observer.until("the metrics, live or later", (seen) =>
        seen.find(({ topic }) => /\/[mh]\/self$/.test(topic)),
      );
    },
    30_000,
  );

  withBroker(
    "refusing by access rules: messages wait, an alarm says so, others go on",
    async () => {
      await using broker = await Mosquitto.start({ listener: ["allow_anonymous true"] });
      await Bun.write(`${broker.directory}/acl`, "topic readwrite holdfast/1/box-1/state\ntopic read #\n");
      await broker.kill();
      await broker.start({ listener: ["allow_anonymous true"], global: ["acl_file acl"] });
      await using box = openBox(broker.url, { outbox: usedOutbox() });
      box.feed.fault("redis");
      await box.until("refused", () => box.telemetry.alarms.some(({ alarm }) => alarm === "broker.refuses"));
      expect(box.outbox.depth("event").rows).toBe(2);
      await broker.kill();
      await broker.start({ listener: ["allow_anonymous true"], global: [] });
      await using observer = await Observer.open(broker.url, everything);
      await observer.until("the event", (seen) => seen.find(({ topic }) => topic.endsWith("/e/suppress")));
      await box.until("drained", () => box.outbox.depth("event").rows === 0);
    },
    30_000,
  );

  withBroker(
    "taking only small packets: what is too large is let go with an event, the rest arrives",
    async () => {
      await using broker = await Mosquitto.start({ global: ["max_packet_size 1000"] });
      await using observer = await Observer.open(broker.url, everything);
      await using box = openBox(broker.url, { outbox: usedOutbox() });
      // Larger than 1000 bytes by its metric catalogue.
      box.telemetry.birth(boxFacts);
      box.feed.fault("redis");
      await observer.until("the event", (seen) => seen.find(({ topic }) => topic.endsWith("/e/suppress")));
      await observer.until("the complaint", (seen) => seen.find(({ topic }) => topic.endsWith("/e/health")));
      expect(observer.seen.some(({ topic }) => topic.endsWith("/birth"))).toBe(false);
      expect(testBroker.ackMs).toBeLessThan(30_000);
    },
    30_000,
  );
});
