// SPDX-License-Identifier: Apache-2.0
/**
 * A box on real storage while its real broker goes through every illness and events keep coming: what the journal has
 * acknowledged arrives at least once, the same event has the same id, and memory stays flat.
 *
 * A broker that is killed without persistence may lose what it acknowledged; a reader sees the gap by `pn` and asks again.
 */
import { afterEach, beforeEach, describe, expect } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { systemClock } from "#clock.ts";
import { operatorPair } from "#scripts/fleet/vectorValues.ts";
import { signCommand } from "#telemetry/command.ts";
import { TrustList } from "#telemetry/trust.ts";
import { Mosquitto } from "#tests/peers/mosquitto.ts";
import { Observer } from "#tests/peers/observer.ts";
import { openStoredBox, type StoredBox } from "#tests/peers/storedBox.ts";
import { long, need } from "#tests/skip.ts";

const withBroker = need("mosquitto");
/** Events of each part, and rounds through all illnesses. */
const each = long("path") ? 2_000 : 150;
const rounds = long("path") ? 10 : 1;

let directory = "";
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "holdfast-campaign-"));
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

type Event = {
  readonly id: string;
  readonly n: number;
  readonly pn: number;
  readonly name: string;
  readonly facts: { readonly number: number };
};

const eventsOf = (observer: Observer): Event[] =>
  (observer.decoded("holdfast/1/box-1/e/lifecycle") as unknown as Event[]).filter(
    ({ name }) => name === "lifecycle.test",
  );

const numbersOf = (observer: Observer): Set<number> => new Set(eventsOf(observer).map(({ facts }) => facts.number));

function expectNoneLost(observer: Observer, count: number): void {
  const seen = numbersOf(observer);
  const missing = Array.from({ length: count }, (_, number) => number).filter((number) => !seen.has(number));
  expect(missing).toEqual([]);
  const ids = new Map<number, Set<string>>();
  for (const { facts, id } of eventsOf(observer)) ids.set(facts.number, (ids.get(facts.number) ?? new Set()).add(id));
  expect([...ids.values()].every((same) => same.size === 1)).toBe(true);
}

const all = (observer: Observer, count: number) =>
  observer.until(`all ${count} events`, () => numbersOf(observer).size >= count);

const drained = (box: StoredBox): Promise<void> => box.until("drained", () => box.outbox.depth("event").rows === 0);

const offline = (box: StoredBox): Promise<void> => box.until("offline", () => !box.telemetry.connected);
const alarmed = (box: StoredBox, name: string): Promise<void> =>
  box.until(name, () => box.telemetry.alarms.some(({ alarm }) => alarm === name));

type Illness = (broker: Mosquitto, box: StoredBox, act: () => Promise<void>) => Promise<void>;

/** Each illness of a broker: makes it ill, lets `act` happen, waits until the box has felt it, heals it. */
const illnesses: Readonly<Record<string, Illness>> = {
  stopped: async (broker, box, act) => {
    const acted = act();
    await broker.stop();
    await acted;
    await offline(box);
    await broker.start();
  },
  frozen: async (broker, box, act) => {
    broker.freeze();
    await act();
    await offline(box);
    broker.thaw();
  },
  "slow, by pulses": async (broker, _box, act) => {
    const acted = act();
    for (let pulse = 0; pulse < 8; pulse += 1) {
      broker.freeze();
      await systemClock.sleep(30);
      broker.thaw();
      await systemClock.sleep(10);
    }
    await acted;
  },
  refusing: async (broker, box, act) => {
    await Bun.write(`${broker.directory}/acl`, "topic read #\ntopic write holdfast/1/box-1/state\n");
    await broker.stop();
    await broker.start({ ...persistent, global: ["acl_file acl"] });
    await act();
    await alarmed(box, "broker.refuses");
    await broker.stop();
    await broker.start(persistent);
  },
  full: async (broker, box, act) => {
    await broker.stop();
    // It starts, has room for a few messages, and then closes every connection (or falls over itself).
    await broker.start({ global: ["memory_limit 60000"] });
    await act();
    await alarmed(box, "broker.unreachable");
    await broker.stop();
    await broker.start(persistent);
  },
};
const persistent = { persistence: true, global: ["max_queued_messages 0", "max_inflight_messages 0"] };

describe("events keep coming while the broker is", () => {
  for (const [name, make] of Object.entries(illnesses)) {
    withBroker(
      `${name}: none is lost`,
      async () => {
        await using broker = await Mosquitto.start(persistent);
        await using observer = await Observer.open(broker.url, ["holdfast/1/box-1/e/#"]);
        await using box = await openStoredBox(directory, broker.url);
        let count = 0;
        const more = async (): Promise<void> => {
          count += each;
          await box.events(count - each, count);
        };
        for (let round = 0; round < rounds; round += 1) {
          await more();
          await make(broker, box, more);
          await more();
        }
        await all(observer, count);
        expectNoneLost(observer, count);
        await drained(box);
      },
      600_000,
    );
  }

  withBroker(
    "killed without persistence: a reader sees what is missing and gets it again",
    async () => {
      await using broker = await Mosquitto.start();
      await using observer = await Observer.open(broker.url, ["holdfast/1/box-1/e/#", "holdfast/1/box-1/job/#"], {
        clean: false,
      });
      await using box = await openStoredBox(directory, broker.url);
      const key = {
        key: operatorPair.public,
        use: "operate",
        name: "reader",
        notBefore: 0,
        expiresAt: 2 ** 33,
      } as const;
      new TrustList(box.outbox).add(key);
      let count = 0;
      for (let round = 0; round < 3 * rounds; round += 1) {
        count += each;
        const written = box.events(count - each, count);
        await broker.kill();
        await broker.start();
        await written;
      }
      await drained(box);
      const iat = Math.floor(systemClock.wallMs() / 1000);
      const to = box.storage.durableCursor;
      const resend = {
        dev: "box-1",
        verb: "resend",
        args: { from: 1, to },
        id: "resend-all-1",
        ctr: 1,
        iat,
        exp: iat + 60,
        role: "view",
      } as const;
      // The observer's own subscription went with the broker; it comes back with its next connection.
      await observer.subscribeAgain();
      await observer.publish("holdfast/1/box-1/cmd/resend", signCommand(operatorPair, resend));
      await all(observer, count);
      expectNoneLost(observer, count);
    },
    600_000,
  );
});

describe("our own end", () => {
  withBroker(
    "what was queued or in flight when we stopped is sent by the next start",
    async () => {
      await using broker = await Mosquitto.start(persistent);
      await using observer = await Observer.open(broker.url, ["holdfast/1/box-1/e/#"]);
      for (let part = 0; part < 3; part += 1) {
        await using box = await openStoredBox(directory, broker.url, {
          settings: { drainPerSecond: part === 2 ? 0 : 40 },
        });
        await box.events(part * each, (part + 1) * each);
      }
      await using box = await openStoredBox(directory, broker.url);
      await all(observer, 3 * each);
      expectNoneLost(observer, 3 * each);
      await drained(box);
    },
    600_000,
  );
});
