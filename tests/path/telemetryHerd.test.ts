// SPDX-License-Identifier: Apache-2.0
/**
 * Rescue records between boxes over a real Mosquitto: what one box learned is a hint on the other before it ever met the
 * fault; and whatever is forged, foreign, moved, oversized, stale, expired, denied or blocked is no hint anywhere.
 */
import { describe, expect } from "bun:test";
import fc from "fast-check";
import { systemClock } from "#clock.ts";
import { buildId, record as exampleRecord, fleetPair, seededPair } from "#scripts/fleet/vectorValues.ts";
import { signDeny } from "#telemetry/deny.ts";
import type { FleetHint } from "#telemetry/fleetRecords.ts";
import type { Learned } from "#telemetry/herdPublisher.ts";
import { type KeyPair, privatePem } from "#telemetry/keys.ts";
import { type RescueRecord, signGrant, signRecord, siteName } from "#telemetry/rescueRecord.ts";
import { TrustList } from "#telemetry/trust.ts";
import { openBox, type TestBox, type TestBoxOptions } from "#tests/peers/box.ts";
import { MemoryFeed } from "#tests/peers/memoryFeed.ts";
import { MemoryOutbox } from "#tests/peers/memoryOutbox.ts";
import { Mosquitto } from "#tests/peers/mosquitto.ts";
import { Observer } from "#tests/peers/observer.ts";
import { long, need } from "#tests/skip.ts";

const withBroker = need("mosquitto");
const admin = seededPair(40);
const nowSeconds = (): number => Math.floor(systemClock.wallMs() / 1000);

const learned = (clean: number, failed = 0): Learned => {
  const { program, isa, signal, fault, boundary, rung, candidate, returnValue } = exampleRecord(new Uint8Array());
  const evidence = { clean, degraded: 0, failed, lastFaultMs: 0 };
  return { build: buildId, program, isa, signal, fault, boundary, rung, candidate, returnValue, ...evidence };
};
const site = siteName(learned(1).fault, learned(1).boundary);
const topic = `holdfast/1/_fleet/rescue/${buildId}/${site}`;
const quickTimes = { quietMs: 0, siteIntervalMs: 0, repeatMs: [10, 20] as const };

const grantFor = (pair: KeyPair, device: string, fleet = fleetPair): Uint8Array =>
  signGrant(fleet, { key: pair.public, device, notBefore: 0, expiresAt: nowSeconds() + 86_400 });

/** An outbox of a box with a known key, a grant for it, and the fleet key and an admin trusted. */
function herdOutbox(pair: KeyPair, device: string, granted = true): MemoryOutbox {
  const outbox = new MemoryOutbox();
  outbox.putNote("session", "sid", "1");
  outbox.putNote("herdKey", "own", privatePem(pair));
  if (granted) outbox.putNote("herdKey", "grant", new Uint8Array(grantFor(pair, device)).toBase64());
  const trust = new TrustList(outbox);
  const dates = { notBefore: 0, expiresAt: nowSeconds() + 86_400 };
  trust.add({ key: fleetPair.public, use: "fleet", name: "fleet", ...dates });
  trust.add({ key: admin.public, use: "admin", name: "admin", ...dates });
  return outbox;
}

function herdBox(
  url: string,
  device: string,
  pair: KeyPair,
  options: TestBoxOptions & { granted?: boolean } = {},
): TestBox {
  const { granted = true, settings, ...rest } = options;
  const outbox = options.outbox ?? herdOutbox(pair, device, granted);
  const box = openBox(url, {
    device,
    ...rest,
    outbox,
    settings: { herd: "use", ...settings },
    more: { herdTimes: quickTimes, ...rest.more },
  });
  box.telemetry.follow([buildId]);
  return box;
}

/** The hints of a box once they fit; asked whenever they change. */
async function hintsUntil(box: TestBox, fits: (hints: readonly FleetHint[]) => boolean): Promise<readonly FleetHint[]> {
  const stop = new AbortController();
  const changed = box.telemetry.hintChanges(AbortSignal.any([stop.signal, AbortSignal.timeout(20_000)]));
  const present = box.telemetry.hints(buildId);
  if (fits(present)) return present;
  for await (const _ of changed) {
    const hints = box.telemetry.hints(buildId);
    if (fits(hints)) return hints;
  }
  return [];
}

const pairA = seededPair(31);
const pairB = seededPair(32);

describe("two boxes of one build", () => {
  withBroker(
    "what A learned is B's hint before its first fault; offline too; a failure here demotes it and is told",
    async () => {
      await using broker = await Mosquitto.start();
      await using observer = await Observer.open(broker.url, ["holdfast/1/#"]);
      await using a = herdBox(broker.url, "box-a", pairA);
      const outboxB = herdOutbox(pairB, "box-b", false);
      {
        await using b = herdBox(broker.url, "box-b", pairB, { outbox: outboxB });
        a.telemetry.learned(learned(3));
        const [hint] = await hintsUntil(b, (hints) => hints.length === 1);
        expect(hint).toMatchObject({ site, signal: "segv", rung: 1, returnValue: -1n, standing: "first", score: 600 });
        expect(hint!.candidate).toEqual(learned(1).candidate);
        // B has no grant: it uses records and publishes none, however much it learned.
        b.telemetry.learned(learned(900));
      }
      await broker.kill();
      const feedB = new MemoryFeed(systemClock);
      {
        await using b = herdBox(broker.url, "box-b", pairB, { outbox: outboxB, feed: feedB });
        expect(b.telemetry.hints(buildId)).toMatchObject([{ site, standing: "first" }]);
        b.telemetry.noteOutcome(buildId, site, "clean");
        b.telemetry.noteOutcome(buildId, site, "failed");
        expect(b.telemetry.hints(buildId)).toMatchObject([{ standing: "afterLadder" }]);
        b.telemetry.noteOutcome(buildId, site, "inapplicable");
        expect(b.telemetry.hints(buildId)).toMatchObject([{ standing: "off" }]);
      }
      await broker.start();
      // The broker has forgotten who listens, and events are told once: the reader is there before the box is.
      await using reader = await Observer.open(broker.url, ["holdfast/1/#"]);
      await using _b = herdBox(broker.url, "box-b", pairB, { outbox: outboxB, feed: feedB });
      const told = await reader.until("the failures", () => {
        const events = reader.decoded("holdfast/1/box-b/e/herd");
        return events.length >= 2 && events;
      });
      expect(told[0]).toMatchObject({
        name: "herd.failed",
        facts: { site, outcome: "failed", author: pairA.public.id },
      });
      const seen = [...observer.seen, ...reader.seen];
      expect(seen.filter((message) => message.topic === topic && message.payload.length === 0)).toEqual([]);
    },
    30_000,
  );

  withBroker(
    "the better record wins on both; a loser that displaced it is displaced; a broker without memory gets it again",
    async () => {
      await using broker = await Mosquitto.start();
      await using a = herdBox(broker.url, "box-a", pairA);
      await using b = herdBox(broker.url, "box-b", pairB);
      a.telemetry.learned(learned(3, 1));
      await hintsUntil(b, (hints) => hints[0]?.author === pairA.public.id);
      b.telemetry.learned(learned(20));
      await hintsUntil(a, (hints) => hints[0]?.author === pairB.public.id);
      const weak: RescueRecord = {
        ...exampleRecord(grantFor(pairA, "box-a")),
        device: "box-a",
        clean: 1,
        degraded: 0,
        rev: 2 ** 33,
        issuedAt: nowSeconds(),
        expiresAt: nowSeconds() + 60,
      };
      await using observer = await Observer.open(broker.url, ["holdfast/1/_fleet/#"]);
      await observer.until("the winner", (seen) => seen.length > 0);
      const before = observer.seen.length;
      await observer.publish(topic, signRecord(pairA, weak), { retain: true });
      const after = await observer.until("the winner again", (seen) => seen.length >= before + 2 && seen.at(-1)!);
      expect(after.payload).toEqual(observer.seen[0]!.payload);
      await broker.kill();
      await broker.start();
      await using late = await Observer.open(broker.url, ["holdfast/1/_fleet/#"]);
      expect((await late.until("the winner once more", (seen) => seen[0])).payload).toEqual(after.payload);
    },
    30_000,
  );
});

describe("records that do nothing", () => {
  withBroker(
    "forged, ungranted, moved, oversized, stale, expired, denied, blocked, and any bytes",
    async () => {
      await using broker = await Mosquitto.start();
      await using observer = await Observer.open(broker.url, ["holdfast/1/_fleet/#"]);
      await using box = herdBox(broker.url, "box-b", pairB);
      const stranger = seededPair(50);
      const good: RescueRecord = {
        ...exampleRecord(grantFor(pairA, "box-a")),
        device: "box-a",
        issuedAt: nowSeconds(),
        expiresAt: nowSeconds() + 3600,
      };
      const send = (payload: Uint8Array, to = topic) => observer.publish(to, payload, { retain: true });
      await box.until("connected", () => box.telemetry.connected);
      await hintsUntil(box, (hints) => hints.length === 0);
      await send(signRecord(stranger, good));
      await send(signRecord(stranger, { ...good, grant: grantFor(stranger, "box-a", stranger) }));
      await send(signRecord(pairA, { ...good, device: "box-c" }));
      await send(signRecord(pairA, { ...good, expiresAt: nowSeconds() - 5, issuedAt: nowSeconds() - 60 }));
      await send(signRecord(pairA, { ...good, expiresAt: nowSeconds() + 300 * 86_400 }));
      await send(signRecord(pairA, good), `holdfast/1/_fleet/rescue/${"ab".repeat(20)}/${site}`);
      await send(signRecord(pairA, good), topic.replace(site, site.replace("31c44", "31c45")));
      await send(new Uint8Array(2000).fill(0x81));
      const bytes = fc.oneof(
        fc.uint8Array({ maxLength: 700 }),
        fc.nat(4000).map((bit) => {
          const copy = signRecord(pairA, good);
          copy[(bit >> 3) % copy.length]! ^= 1 << (bit & 7);
          return copy;
        }),
      );
      await fc.assert(
        fc.asyncProperty(bytes, async (payload) => void (await send(payload))),
        { numRuns: long("fuzz") ? 20_000 : 200, verbose: true },
      );
      expect(box.telemetry.hints(buildId)).toEqual([]);
      await send(signRecord(pairA, { ...good, rev: 7 }));
      await hintsUntil(box, (hints) => hints[0]?.rev === 7);
      // Played back: an older revision of the same author, however good.
      await send(signRecord(pairA, { ...good, rev: 6, clean: 999 }));
      await send(signRecord(pairA, { ...good, rev: 8, clean: 0, degraded: 0, failed: 9 }));
      await hintsUntil(box, (hints) => hints[0]?.rev === 8);

      const list = { number: 1, issuedAt: nowSeconds(), keys: [pairA.public.id], records: [] };
      await observer.publish("holdfast/1/_fleet/deny", signDeny(stranger, list), { retain: true });
      await observer.publish("holdfast/1/_fleet/deny", signDeny(admin, list), { retain: true });
      await hintsUntil(box, (hints) => hints.length === 0);
      await send(signRecord(pairA, { ...good, rev: 9 }));
      await observer.publish("holdfast/1/_fleet/deny", signDeny(admin, { ...list, number: 2, keys: [] }), {
        retain: true,
      });
      await send(signRecord(pairA, { ...good, rev: 10 }));
      await hintsUntil(box, (hints) => hints[0]?.rev === 10);
      await observer.publish("holdfast/1/_fleet/deny", signDeny(admin, list), { retain: true });
      await send(signRecord(pairA, { ...good, rev: 11 }));
      await hintsUntil(box, (hints) => hints[0]?.rev === 11);
      expect(box.feed.recorded("audit.deny").length).toBe(2);
      const samples = box.telemetry.samples().filter(({ name }) => name === "herd_ignored_total");
      const reasons = ["denied", "expired", "form", "grant", "key", "signature", "size", "stale"];
      expect(samples.map(({ labels }) => labels[0]!).sort()).toEqual(reasons);
    },
    60_000,
  );

  withBroker(
    "with the herd off nothing is subscribed; a record of the box that failed too often is not published",
    async () => {
      await using broker = await Mosquitto.start();
      await using observer = await Observer.open(broker.url, ["holdfast/1/#"]);
      await using off = herdBox(broker.url, "box-b", pairB, { settings: { herd: "off" } });
      await using a = herdBox(broker.url, "box-a", pairA);
      off.telemetry.learned(learned(50));
      a.telemetry.learned(learned(1, 3));
      a.telemetry.learned({ ...learned(9), fault: { module: buildId, offset: 7n }, boundary: null });
      await observer.until("the good one", (seen) => seen.find((one) => one.topic.endsWith("c0ffee00.7-none")));
      expect(observer.seen.some((one) => one.topic === topic)).toBe(false);
      expect(off.telemetry.hints(buildId)).toEqual([]);
    },
  );
});
