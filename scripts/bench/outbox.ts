// SPDX-License-Identifier: Apache-2.0
/**
 * Telemetry's own costs: encoding, signing, and the way of events from the journal through the outbox to a real Mosquitto.
 *
 * Encoding and signing are timed in rounds, interleaved with a control. Then `--messages N` events are queued while there is
 * no broker, the broker comes, and they drain with the pace limit lifted: seconds, and how far the process grew over its
 * size right before (sampled every 20 ms). `--json FILE`.
 */
import { createHash } from "node:crypto";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { systemClock } from "#clock.ts";
import * as example from "#scripts/fleet/vectorValues.ts";
import { decodeCborMap, encodeCbor } from "#telemetry/cbor.ts";
import { openCommand, signCommand } from "#telemetry/command.ts";
import { decodePack, encodePacks } from "#telemetry/senml.ts";
import { Mosquitto } from "#tests/peers/mosquitto.ts";
import { openStoredBox, type StoredBox } from "#tests/peers/storedBox.ts";
import { controlResult, publish, readFlags, rounded } from "./benchReport.ts";
import { median } from "./statistics.ts";

const seed = 1;
const roundCalls = 400;
const mebibyte = 1024 * 1024;
const sampleMs = 20;

const event = encodeCbor(example.faultEvent);
const [pack] = encodePacks(example.device, example.atMs, example.samples);
const signed = signCommand(example.operatorPair, example.command);
const control = new Uint8Array(4096);

/** What is timed, by the name of its row. */
const acts: Readonly<Record<string, () => unknown>> = {
  control: () => createHash("sha256").update(control).digest(),
  encodeEvent: () => encodeCbor(example.faultEvent),
  decodeEvent: () => decodeCborMap(event, 65_536),
  encodePack: () => encodePacks(example.device, example.atMs, example.samples),
  decodePack: () => decodePack(pack!),
  signCommand: () => signCommand(example.operatorPair, example.command),
  openCommand: () => openCommand(signed, example.operatorPair.public, example.device, example.command.verb),
};

/** Median microseconds of each act over interleaved rounds. */
function timeActs(rounds: number): { readonly medians: Record<string, number>; readonly control: number[] } {
  const times: Record<string, number[]> = Object.fromEntries(Object.keys(acts).map((name) => [name, []]));
  for (let round = 0; round < rounds; round += 1) {
    const names = round % 2 === 0 ? Object.keys(acts) : Object.keys(acts).reverse();
    for (const name of names) {
      const startNs = systemClock.monotonicNs();
      for (let call = 0; call < roundCalls; call += 1) acts[name]!();
      times[name]!.push((systemClock.monotonicNs() - startNs) / 1000 / roundCalls);
    }
  }
  const medians = Object.fromEntries(Object.entries(times).map(([name, us]) => [name, rounded(median(us), 2)]));
  return { medians, control: times.control! };
}

async function until(holds: () => boolean): Promise<void> {
  while (!holds()) await systemClock.sleep(sampleMs);
}

/** Queues `messages` without a broker, lets them drain, gives rates and growth. */
async function drain(
  box: StoredBox,
  broker: Mosquitto,
  from: number,
  messages: number,
): Promise<Record<string, number>> {
  await broker.kill();
  await until(() => !box.telemetry.connected);
  const queueNs = systemClock.monotonicNs();
  await box.events(from, from + messages);
  await until(() => box.outbox.depth("event").rows >= messages);
  await box.outbox.flush();
  const queueSeconds = (systemClock.monotonicNs() - queueNs) / 1e9;
  const before = process.memoryUsage.rss();
  let peak = before;
  const drainNs = systemClock.monotonicNs();
  await broker.start();
  await until(() => {
    peak = Math.max(peak, process.memoryUsage.rss());
    return box.outbox.depth("event").rows === 0;
  });
  const drainSeconds = (systemClock.monotonicNs() - drainNs) / 1e9;
  return {
    messages,
    queuedPerSecond: Math.round(messages / queueSeconds),
    drainSeconds: rounded(drainSeconds),
    drainedPerSecond: Math.round(messages / drainSeconds),
    rssBeforeMiB: rounded(before / mebibyte),
    growthMiB: rounded((peak - before) / mebibyte),
  };
}

const flags = readFlags(process.argv.slice(2), { messages: 100_000, rounds: 20 });
const { messages, rounds } = flags.numbers as { messages: number; rounds: number };
timeActs(3);
const timed = timeActs(rounds);
const results: Record<string, unknown> = {
  microseconds: timed.medians,
  bytes: { event: event.length, pack: pack!.length, signedCommand: signed.length },
  control: controlResult(timed.control),
};
const directory = await mkdtemp(join(tmpdir(), "holdfast-bench-"));
{
  await using broker = await Mosquitto.start();
  await using box = await openStoredBox(directory, broker.url);
  await until(() => box.telemetry.connected);
  results["drain, cold process"] = await drain(box, broker, 0, messages);
  results["drain, again"] = await drain(box, broker, messages, Math.ceil(messages / 4));
}
await rm(directory, { recursive: true, force: true });
await publish({ name: "outbox", seed, rounds, results, failed_runs: [] }, flags.json);
process.exit(0);
