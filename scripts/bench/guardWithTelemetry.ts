// SPDX-License-Identifier: Apache-2.0
/**
 * `holdfast guard` with telemetry in the same process, over the guard's own storage: for brokerStop.ts, and run like
 * `holdfast`. Gets the broker's address in HOLDFAST_BENCH_BROKER; sends every event of the guard, and metrics each half second.
 */
import { verbs } from "#cli/main.ts";
import { run } from "#cli/program.ts";
import { systemClock, systemRandom } from "#clock.ts";
import { silentLog } from "#log.ts";
import { Storage, type StorageOptions } from "#storage/storage.ts";
import { brokerDefaults, telemetryDefaults } from "#telemetry/settings.ts";
import { StoredFeed } from "#telemetry/storedFeed.ts";
import { StoredOutbox } from "#telemetry/storedOutbox.ts";
import { Telemetry } from "#telemetry/telemetry.ts";

const metricsMs = 500;
const broker = {
  ...brokerDefaults,
  keepAliveMs: 2_000,
  connectMs: 3_000,
  ackMs: 3_000,
  url: Bun.env.HOLDFAST_BENCH_BROKER ?? "",
};
const reconnect = { leastMs: 100, mostMs: 1_000, spreadMs: 0, busyMs: 1_000, healthyMs: 60_000 };

async function beginTelemetry(storage: Storage, directory: string): Promise<void> {
  const outbox = await StoredOutbox.open({ storage, directory, clock: systemClock, log: silentLog });
  const telemetry = Telemetry.open({
    settings: { ...telemetryDefaults, device: "bench", broker, reconnect },
    ...{ outbox, feed: new StoredFeed(storage, directory), boot: "bench", version: "0.1.0" },
    ...{ about: () => ({}), clockKnown: () => true, clock: systemClock, random: systemRandom, log: silentLog },
  });
  for (;;) {
    telemetry.metrics({ group: "link", atMs: systemClock.wallMs(), samples: telemetry.samples() });
    await systemClock.sleep(metricsMs);
  }
}

// The seam of the bench: the guard opens its storage, and telemetry is begun over it.
const open = Storage.open.bind(Storage);
Storage.open = async (options: StorageOptions): Promise<Storage> => {
  const storage = await open(options);
  void beginTelemetry(storage, options.directory);
  return storage;
};

process.exit(await run(process.argv.slice(2), verbs));
