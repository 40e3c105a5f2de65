// SPDX-License-Identifier: Apache-2.0
/** A box for tests of telemetry: the real thing over a journal and an outbox in memory, with short times. Gets a broker's address; gives the box and its parts. */
import { deadline, systemClock, systemRandom } from "#clock.ts";
import { openLog, silentLog } from "#log.ts";
import type { BoxFacts } from "#telemetry/box.ts";
import type { JournalFeed } from "#telemetry/feed.ts";
import type { Outbox } from "#telemetry/outbox.ts";
import type { BrokerSettings, TelemetrySettings } from "#telemetry/settings.ts";
import { brokerDefaults, telemetryDefaults } from "#telemetry/settings.ts";
import { Telemetry, type TelemetryOptions } from "#telemetry/telemetry.ts";
import { MemoryFeed } from "#tests/peers/memoryFeed.ts";
import { MemoryOutbox } from "#tests/peers/memoryOutbox.ts";

export type TestBox<Feed = MemoryFeed, Box = MemoryOutbox> = AsyncDisposable & {
  readonly telemetry: Telemetry;
  readonly feed: Feed;
  readonly outbox: Box;
  /** Resolves once `holds`, which is asked at every change. @throws RangeError where it never does */
  until(what: string, holds: () => boolean): Promise<void>;
};
export type TestBoxOptions = {
  readonly device?: string;
  readonly broker?: Partial<BrokerSettings>;
  readonly settings?: Partial<TelemetrySettings>;
  readonly outbox?: MemoryOutbox;
  readonly feed?: MemoryFeed;
  readonly more?: Partial<TelemetryOptions>;
};

export const boxFacts: BoxFacts = {
  boot: "boot-1",
  model: "test",
  soc: "none",
  arch: "x64",
  sw: "0.1.0",
  os: "Debian 12",
  slot: "a",
  reason: "test",
  workloads: [],
  counters: { kind: "none", why: "a test" },
};

const untilMs = 20_000;

/** Short waits: a test must not wait for a minute of patience. */
export const testBroker = {
  ...brokerDefaults,
  keepAliveMs: 1_000,
  connectMs: 3_000,
  ackMs: 4_000,
  willDelaySeconds: 0,
};
export const testReconnect = { leastMs: 50, mostMs: 400, spreadMs: 0, busyMs: 400, healthyMs: 60_000 };

export function openBox(url: string, options: TestBoxOptions = {}): TestBox {
  const { outbox = new MemoryOutbox(), feed = new MemoryFeed(systemClock) } = options;
  return openBoxOver(url, feed, outbox, options);
}

/** The same over any journal and outbox. */
export function openBoxOver<Feed extends JournalFeed, Box extends Outbox>(
  url: string,
  feed: Feed,
  outbox: Box,
  options: Omit<TestBoxOptions, "feed" | "outbox"> = {},
): TestBox<Feed, Box> {
  const { device = "box-1", broker, settings, more } = options;
  const log =
    Bun.env.HOLDFAST_TEST_LOG === undefined ? silentLog : openLog(device, "debug", systemClock, console.error);
  const telemetry = Telemetry.open({
    settings: {
      ...telemetryDefaults,
      device,
      reconnect: testReconnect,
      drainPerSecond: 0,
      ...settings,
      broker: { ...testBroker, url, ...broker },
    },
    outbox,
    feed,
    boot: "boot-1",
    version: "0.1.0",
    stateRepeatMs: 200,
    about: () => ({ sw: "0.1.0" }),
    clockKnown: () => true,
    clock: systemClock,
    random: systemRandom,
    log,
    ...more,
  });
  // A bug in a task of telemetry fails the test that runs now.
  telemetry.failed.catch((error: unknown) => {
    queueMicrotask(() => {
      throw error;
    });
  });
  const until = async (what: string, holds: () => boolean): Promise<void> => {
    using patience = deadline(untilMs, () => new RangeError(`${device}: it never came to this: ${what}`));
    for await (const _ of telemetry.changes(patience.signal)) if (holds()) return;
  };
  return { telemetry, feed, outbox, until, [Symbol.asyncDispose]: () => telemetry[Symbol.asyncDispose]() };
}
