// SPDX-License-Identifier: Apache-2.0
/**
 * A box on real storage: journal and outbox in files, the storage Worker, telemetry at a broker. Gets a directory; gives the
 * box, whose events are durable once `events` has resolved. For campaigns and benches.
 */
import { join } from "node:path";
import { systemClock } from "#clock.ts";
import { openLog, silentLog } from "#log.ts";
import { Storage } from "#storage/storage.ts";
import { StoredFeed } from "#telemetry/storedFeed.ts";
import { StoredOutbox } from "#telemetry/storedOutbox.ts";
import type { Telemetry } from "#telemetry/telemetry.ts";
import { openBoxOver, type TestBoxOptions } from "#tests/peers/box.ts";

export type StoredBox = AsyncDisposable & {
  readonly telemetry: Telemetry;
  readonly storage: Storage;
  readonly outbox: StoredOutbox;
  /** Writes events named by `from` to `to` (not included); resolves when the journal has them. */
  readonly events: (from: number, to: number) => Promise<void>;
  readonly until: (what: string, holds: () => boolean) => Promise<void>;
};

export async function openStoredBox(
  directory: string,
  url: string,
  options: Omit<TestBoxOptions, "feed" | "outbox"> = {},
): Promise<StoredBox> {
  const clock = systemClock;
  const log = Bun.env.HOLDFAST_TEST_LOG === undefined ? silentLog : openLog("storage", "debug", clock, console.error);
  const runDirectory = join(directory, "run");
  const storage = await Storage.open({ directory: join(directory, "state"), runDirectory, clock, log });
  const feed = new StoredFeed(storage, join(directory, "state"));
  const outbox = await StoredOutbox.open({ storage, directory: join(directory, "state"), clock, log });
  const box = openBoxOver(url, feed, outbox, options);
  return {
    telemetry: box.telemetry,
    storage,
    outbox,
    until: box.until,
    events: async (from, to) => {
      for (let number = from; number < to; number += 1) {
        storage.event("lifecycle.test", "redis", { number });
        // The queue before the disk is bounded; a test must not count what never became durable.
        if (number % 512 === 511) await storage.flush();
      }
      await storage.flush();
    },
    async [Symbol.asyncDispose]() {
      await box[Symbol.asyncDispose]();
      await storage[Symbol.asyncDispose]();
    },
  };
}
