// SPDX-License-Identifier: Apache-2.0
/** Topics, metrics, state words, commands and the herd's order, each by its rule. */
import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { type MetricSample, metricCatalogue } from "#metrics.ts";
import { boxPair, command, device, fleetPair, operatorPair, record, samples } from "#scripts/fleet/vectorValues.ts";
import { openCommand, readArguments, signCommand } from "#telemetry/command.ts";
import { discoveryConfig } from "#telemetry/discovery.ts";
import { best, contest, score } from "#telemetry/herdOrder.ts";
import { type KeyId, newKeyPair, privatePem, publicPem, readKeyPair, readPublicKey } from "#telemetry/keys.ts";
import { readJson, stateSchema } from "#telemetry/payloads.ts";
import { openRecord, signGrant, signRecord, siteName } from "#telemetry/rescueRecord.ts";
import { decodePack, encodePacks, jsonPacks, labelPart } from "#telemetry/senml.ts";
import { believe, judgeEcho, repeatMs, stateWords, willWords } from "#telemetry/state.ts";
import { BoxTopics, readTopic } from "#telemetry/topics.ts";
import { verbNames } from "#verbs.ts";

const topics = new BoxTopics("plant/a", "box-1");
const read = (text: string) => readJson(stateSchema, new TextEncoder().encode(text));

describe("topics", () => {
  test("are built and read back", () => {
    expect(topics.live("host")).toBe("plant/a/1/box-1/m/host");
    expect(topics.mirror(topics.event("fault"))).toBe("plant/a/1/box-1/json/e/fault");
    expect(readTopic(topics, topics.state)).toEqual({ kind: "state" });
    expect(readTopic(topics, topics.command("ping"))).toEqual({ kind: "command", verb: "ping", to: "box" });
    expect(readTopic(topics, topics.commandToAll("ping"))).toEqual({ kind: "command", verb: "ping", to: "all" });
    expect(readTopic(topics, "plant/a/1/box-2/cmd/ping")).toBeNull();
    expect(readTopic(topics, topics.rescue("00", "x"))).toBeNull();
    expect(() => topics.job("../x")).toThrow();
    expect(topics.isAnswer("plant/a/1/_rsp/op/7")).toBe(true);
    expect(topics.isAnswer("plant/a/1/box-2/cmd/wipe")).toBe(false);
  });
  test.each(["", "Box", "-a", "a/b", "a+", "a".repeat(64)])("refuse the device name %p", (name) => {
    expect(() => new BoxTopics("holdfast", name)).toThrow();
  });
});

describe("metrics", () => {
  test("read back from a pack, and alike from JSON", () => {
    const atMs = 1_795_366_800_250;
    const points = encodePacks(device, atMs, samples).flatMap((pack) => decodePack(pack));
    expect(points).toContainEqual({ name: "box-17/faults_total/redis/SIGSEGV", unit: "", value: 12, atMs });
    expect(points).toContainEqual({ name: "box-17/stop_seconds/redis/le/0.001", unit: "", value: 9, atMs });
    const json = jsonPacks(device, atMs, samples).flatMap((pack) => JSON.parse(pack));
    expect(json.length).toBe(points.length);
    expect(json[0]).toMatchObject({ bn: "box-17/", n: "faults_total/redis/SIGSEGV", v: 12 });
  });
  test("a value that is none is left out, many values become several packs", () => {
    const none: MetricSample = { kind: "value", name: "host_memory_available_bytes", labels: [], value: Number.NaN };
    expect(encodePacks(device, 0, [none])).toEqual([]);
    const many = Array.from(
      { length: 600 },
      (_, index): MetricSample => ({ kind: "value", name: "workload_up", labels: [`w${index}`], value: 1 }),
    );
    expect(encodePacks(device, 0, many).map((pack) => decodePack(pack).length)).toEqual([256, 256, 88]);
  });
  test("labels become names that differ", () => {
    expect(labelPart("/var/lib")).toBe(":2fvar:2flib");
    fc.assert(
      fc.property(
        fc.string(),
        fc.string(),
        (a, b) => a === b || a.length > 40 || b.length > 40 || labelPart(a) !== labelPart(b),
      ),
      { verbose: true },
    );
  });
  test("every histogram has bounds that rise", () => {
    for (const { kind, ...rest } of Object.values(metricCatalogue)) {
      const bounds = "bounds" in rest ? rest.bounds : [];
      expect(kind === "histogram").toBe(bounds.length > 0);
      expect([...bounds].sort((a, b) => a - b)).toEqual([...bounds]);
    }
  });
});

describe("state", () => {
  test("says what the contract says", () => {
    const words = stateWords(412, "b", "online", "ok", 1_795_366_800_000);
    expect(words).toBe('{"v":1,"s":"online","sid":412,"boot":"b","t":"2026-11-22T17:00:00Z","health":"ok"}');
    expect(read(willWords(412, "b"))).toEqual({ v: 1, s: "lost", sid: 412, boot: "b" });
  });
  test("an echo is our own words, somebody else's, or a later session", () => {
    const own = { text: stateWords(5, "b", "online", "ok", 0), sid: 5, saidAtMs: 1000 };
    const seen = (text: string) => judgeEcho({ text, state: read(text) }, own);
    expect(seen(own.text)).toEqual({ kind: "own" });
    expect(seen(willWords(5, "b"))).toEqual({ kind: "repeat", atMs: 1000 + repeatMs });
    expect(seen(willWords(9, "b"))).toEqual({ kind: "behind", sid: 10 });
    expect(judgeEcho({ text: "", state: null }, own).kind).toBe("repeat");
  });
  test("a reader does not believe a stale will", () => {
    const online = read(stateWords(7, "b", "online", "ok", 0));
    expect(believe(online, read(willWords(6, "b")))).toBe(online);
    expect(believe(online, read(willWords(7, "b"))).s).toBe("lost");
  });
});

describe("commands", () => {
  test("are bound to their box and verb, and stay small", () => {
    const signed = signCommand(operatorPair, command);
    expect(signed.length).toBeLessThan(220);
    const opened = openCommand(signed, operatorPair.public, device, "workload.restart");
    expect(opened).toMatchObject({ id: command.id, ctr: 12, role: "operate" });
    expect(() => openCommand(signed, operatorPair.public, device, "workload.hold")).toThrow("signature");
    expect(() => openCommand(signed, operatorPair.public, "_all", "workload.restart")).toThrow("signature");
    expect(() => openCommand(signed, boxPair.public, device, "workload.restart")).toThrow("another key");
  });
  test("arguments: every verb has its own, and none takes a path or an unknown key", () => {
    expect(() => readArguments("workload.restart", {})).toThrow();
    expect(() => readArguments("workload.restart", { w: "redis", force: true })).toThrow();
    expect(readArguments("maintenance", { on: true })).toEqual({ on: true });
    for (const verb of verbNames) expect(() => readArguments(verb, { path: "/etc/passwd" })).toThrow();
  });
});

test("keys survive PEM and hex", () => {
  const pair = newKeyPair();
  expect(readKeyPair(privatePem(pair)).public.id).toBe(pair.public.id);
  expect(readPublicKey(publicPem(pair.public)).id).toBe(pair.public.id);
  expect(readPublicKey(pair.public.raw.toHex()).id).toBe(pair.public.id);
  expect(() => readPublicKey("ff")).toThrow();
});

describe("herd", () => {
  const contender = (author: string, rev: number, clean: number, failed: number) => ({
    author: author as KeyId,
    record: { clean, degraded: 0, failed, rev },
  });
  test("score and order follow the contract", () => {
    expect(score({ clean: 1, degraded: 0, failed: 0 })).toBe(333);
    expect(score({ clean: 1, degraded: 0, failed: 1 })).toBe(142);
    expect(contest(contender("a", 2, 1, 5), contender("a", 1, 9, 0))).toBeLessThan(0);
    expect(contest(contender("a", 1, 9, 0), contender("b", 9, 1, 0))).toBeLessThan(0);
    expect(contest(contender("a", 1, 3, 0), contender("b", 1, 3, 0))).toBeLessThan(0);
  });
  test("whatever the order of arrival, all end on the same record", () => {
    const some = fc.record({
      author: fc.constantFrom("a", "b", "c", "d"),
      rev: fc.nat(5),
      clean: fc.nat(9),
      failed: fc.nat(3),
    });
    // One author never signs two different records of one rev.
    const all = fc.uniqueArray(some, { minLength: 1, maxLength: 8, selector: ({ author, rev }) => `${author}${rev}` });
    fc.assert(
      fc.property(
        all.chain((list) => fc.tuple(fc.constant(list), fc.shuffledSubarray(list, { minLength: list.length }))),
        ([list, shuffled]) => {
          const winner = (items: typeof list) =>
            best(items.map((item) => contender(item.author, item.rev, item.clean, item.failed)));
          expect(winner(shuffled)).toEqual(winner(list));
        },
      ),
      { verbose: true },
    );
  });
  test("a record fits its limit with its grant and keeps 64-bit offsets and values", () => {
    const grant = signGrant(fleetPair, { key: boxPair.public, device, notBefore: 0, expiresAt: 2 ** 31 });
    const wide = { ...record(grant), returnValue: -(2n ** 63n), fault: { ...record(grant).fault, offset: 2n ** 63n } };
    const signed = signRecord(boxPair, wide);
    expect(signed.length).toBeLessThan(640);
    expect(openRecord(signed, boxPair.public, wide.build, siteName(wide.fault, wide.boundary))).toEqual(wide);
  });
});

test("discovery names the state and the metrics of each workload", () => {
  const config = JSON.parse(discoveryConfig(topics, { model: "m", version: "1", workloads: ["redis"] }));
  expect(Object.keys(config.cmps)).toEqual(["online", "health", "workload_up_redis", "restarts_total_redis"]);
  expect(config.cmps.workload_up_redis.state_topic).toBe("plant/a/1/box-1/json/m/workload");
});
