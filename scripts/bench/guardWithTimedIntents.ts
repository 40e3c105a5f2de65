// SPDX-License-Identifier: Apache-2.0
/**
 * `holdfast guard` that times what its fault path calls in storage while the thread is stopped: for storage.ts, and run like
 * `holdfast`. Writes the times, µs, as JSON to the file named in HOLDFAST_BENCH_TIMES when it ends.
 */
import { writeFileSync } from "node:fs";
import { verbs } from "#cli/main.ts";
import { run } from "#cli/program.ts";
import { systemClock } from "#clock.ts";
import { Storage } from "#storage/storage.ts";

const times: number[] = [];
let rehearsing = false;

// The seam of the bench: the one call of storage between stop and resume; not where it is only rehearsed.
const { intent, rehearse } = Storage.prototype;
Storage.prototype.rehearse = function (this: Storage, ...facts: Parameters<typeof rehearse>): void {
  rehearsing = true;
  rehearse.apply(this, facts);
  rehearsing = false;
};
Storage.prototype.intent = function (this: Storage, ...facts: Parameters<typeof intent>): void {
  if (rehearsing) {
    intent.apply(this, facts);
    return;
  }
  const startNs = systemClock.monotonicNs();
  intent.apply(this, facts);
  times.push((systemClock.monotonicNs() - startNs) / 1_000);
};

process.on("exit", () => writeFileSync(Bun.env.HOLDFAST_BENCH_TIMES ?? "/dev/null", JSON.stringify(times)));
process.exit(await run(process.argv.slice(2), verbs));
