// SPDX-License-Identifier: Apache-2.0
/**
 * `bun scripts/bench/gdb.ts [--json FILE] [--clients 10] [--faults 300]`: what the remote protocol costs at a fault, by our
 * own clock, beside the round trip of an 8-byte `m` in the same run.
 *
 * inspect: from the stop as read until registers and cause are known. resume: registers written and the thread resumed,
 * both confirmed. cold: the first fault of each client. The program is tests/peers/faulter.c with 18 other threads.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { systemClock } from "#clock.ts";
import { address } from "#fault.ts";
import { silentLog } from "#log.ts";
import { GdbClient } from "#monitor/gdb/client.ts";
import { startStub } from "#monitor/gdb/stub.ts";
import { Faulter } from "#tests/peers/faulter.ts";
import { controlResult, publish, readFlags } from "./benchReport.ts";
import { median, quantile } from "./statistics.ts";

const loadBytes = process.arch === "x64" ? 3n : 4n;
const roundTripsPerClient = 300;

type Sample = { readonly inspectUs: number; readonly resumeUs: number };
type Run = { readonly roundTripsUs: readonly number[]; readonly faults: readonly Sample[] };

const sinceUs = (fromNs: number): number => (systemClock.monotonicNs() - fromNs) / 1e3;

/** One fault of the faulter, mended. */
async function mend(client: GdbClient, faulter: Faulter): Promise<Sample> {
  faulter.tell("segv 0");
  for await (const stop of client.stops()) {
    if (stop.kind !== "signal") throw new TypeError(`${stop.kind} instead of a fault`);
    const { registers } = await client.inspect(stop.tid);
    const inspectUs = sinceUs(stop.atNs);
    const { pc } = client.layout;
    const control = client.control(stop.tid);
    const fromNs = systemClock.monotonicNs();
    await control.writeRegisters(new Map([[pc, registers[pc]! + loadBytes]]));
    await control.resume();
    const resumeUs = sinceUs(fromNs);
    await faulter.until("survived");
    return { inspectUs, resumeUs };
  }
  throw new TypeError("the stops have ended");
}

async function runClient(faults: number): Promise<Run> {
  const directory = mkdtempSync(join(tmpdir(), "holdfast-bench-gdb-"));
  await using faulter = await Faulter.start();
  const { transport } = await startStub(directory, { clock: systemClock });
  await using client = await GdbClient.open(transport, { clock: systemClock, log: silentLog });
  await client.attach(faulter.pid, { stopAll: false });
  const samples: Sample[] = [];
  for (let count = 0; count < faults; count += 1) samples.push(await mend(client, faulter));
  const { registers } = await client.stopThread(faulter.pid);
  const sp = address(registers[client.layout.sp]!);
  const roundTripsUs: number[] = [];
  for (let count = 0; count < roundTripsPerClient; count += 1) {
    const fromNs = systemClock.monotonicNs();
    await client.readMemory(sp, 8, faulter.pid);
    roundTripsUs.push(sinceUs(fromNs));
  }
  await client.detach();
  rmSync(directory, { recursive: true });
  return { roundTripsUs, faults: samples };
}

const { json, numbers } = readFlags(process.argv.slice(2), { clients: 10, faults: 300 });
const runs: Run[] = [];
for (let count = 0; count < numbers.clients!; count += 1) runs.push(await runClient(numbers.faults!));

const describe = (values: readonly number[]) => ({
  medianUs: Math.round(median(values)),
  p99Us: Math.round(quantile(values, 0.99)),
});
const warm = runs.flatMap(({ faults }) => faults.slice(1));
const cold = runs.flatMap(({ faults }) => faults.slice(0, 1));
const results = {
  roundTripOf8Bytes: describe(runs.flatMap(({ roundTripsUs }) => roundTripsUs)),
  inspect: describe(warm.map(({ inspectUs }) => inspectUs)),
  resume: describe(warm.map(({ resumeUs }) => resumeUs)),
  coldInspect: describe(cold.map(({ inspectUs }) => inspectUs)),
  coldResume: describe(cold.map(({ resumeUs }) => resumeUs)),
  firstOfAll: { inspectUs: Math.round(cold[0]!.inspectUs), resumeUs: Math.round(cold[0]!.resumeUs) },
  control: controlResult(runs.map(({ roundTripsUs }) => median(roundTripsUs))),
};
await publish({ name: "gdb", seed: 0, rounds: runs.length, results, failed_runs: [] }, json);
