// SPDX-License-Identifier: Apache-2.0
/**
 * Stop time by the program's own clock, against round trips of an 8-byte read on the same machine in the same run.
 *
 * A guarded test program (stop.c) reads CLOCK_MONOTONIC before it calls into a fault and after that call has returned the
 * error value. Between two faults, round trips of an 8-byte `m` are timed on a bare gdbserver connection of our own to a
 * second copy of the program. Gives medians, p99 and their ratio. `--faults N`, `--trips N` after each fault, `--json FILE`.
 * The first fault of each kind is reported apart: it loads what later ones find ready.
 */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { GuardProcess } from "#appliance/demo/guardProcess.ts";
import { systemClock } from "#clock.ts";
import { address } from "#fault.ts";
import { silentLog } from "#log.ts";
import { GdbClient } from "#monitor/gdb/client.ts";
import { startStub } from "#monitor/gdb/stub.ts";
import { controlResult, publish, readFlags, rounded } from "./benchReport.ts";
import { compileOrdered, type OrderedProgram } from "./orderedProgram.ts";
import { median, medianInterval, quantile } from "./statistics.ts";

const kinds = { l: "null load", s: "wild store", c: "call of null", d: "division", a: "abort" } as const;
type Kind = keyof typeof kinds;
const order = Object.keys(kinds) as Kind[];
const outcomeMsMax = 20_000;
const seed = 1;

type Stop = { readonly kind: Kind; readonly first: boolean; readonly us: number; readonly value: bigint };
type Twin = AsyncDisposable & { roundTripUs(): Promise<number> };

/** The records that stop.c has written, from number `from` on. */
function readStops(program: OrderedProgram, from: number): Omit<Stop, "first">[] {
  const bytes = program.shared();
  const count = Number(bytes.u64());
  bytes.position = 32 + 32 * from;
  return Array.from({ length: count - from }, () => {
    const kind = String.fromCharCode(Number(bytes.u64())) as Kind;
    const value = bytes.i64();
    const startNs = bytes.u64();
    return { kind, value, us: Number(bytes.u64() - startNs) / 1_000 };
  });
}

/** A second copy of the program, attached to by a bare gdbserver of our own: its stack is read for the round trips. */
async function openTwin(): Promise<Twin> {
  const program = await compileOrdered("stop");
  const directory = await mkdtemp(join(tmpdir(), "holdfast-bench-"));
  const child = Bun.spawn([...program.command], { stdio: ["ignore", "ignore", "ignore"] });
  const stub = await startStub(directory, { clock: systemClock });
  const client = await GdbClient.open(stub.transport, { clock: systemClock, log: silentLog });
  await client.attach(child.pid, { stopAll: false });
  const maps = await Bun.file(`/proc/${child.pid}/maps`).text();
  const stack = address(BigInt(`0x${/^(\w+)-\w+ .*\[stack\]$/m.exec(maps)![1]}`));
  return {
    async roundTripUs() {
      const startNs = systemClock.monotonicNs();
      await client.readMemory(stack, 8, child.pid);
      return (systemClock.monotonicNs() - startNs) / 1_000;
    },
    async [Symbol.asyncDispose]() {
      await client.detach();
      await client[Symbol.asyncDispose]();
      process.kill(stub.pid, "SIGKILL");
      child.kill("SIGKILL");
      await child.exited;
      await program[Symbol.asyncDispose]();
      await rm(directory, { recursive: true, force: true });
    },
  };
}

type Measured = {
  readonly stops: Stop[];
  readonly tripsUs: number[];
  readonly ownUs: number[];
  readonly failed: unknown[];
};

async function measure(faults: number, trips: number): Promise<Measured> {
  const measured: Measured = { stops: [], tripsUs: [], ownUs: [], failed: [] };
  await using twin = await openTwin();
  await twin.roundTripUs();
  await using program = await compileOrdered("stop");
  const scratch = await mkdtemp(join(tmpdir(), "holdfast-bench-"));
  await using _scratch = { [Symbol.asyncDispose]: () => rm(scratch, { recursive: true, force: true }) };
  const where = ["--name", `bench-stop-${process.pid}`, "--state", join(scratch, "state")];
  await using guard = new GuardProcess({
    ...{ holdfast: ownHoldfast, guardArguments: [...where, "--", ...program.command], logPath: join(scratch, "log") },
  });
  await guard.guarding();
  for (let number = 0; number < faults; number += 1) {
    const kind = order[number % order.length]!;
    const from = guard.events.length;
    program.order(kind);
    const outcome = await guard.waitFor(
      (event) => event.event === "outcome" || event.event === "exit",
      outcomeMsMax,
      from,
    );
    if (outcome?.event !== "outcome" || outcome.verdict === "failed") {
      measured.failed.push({ number, kind: kinds[kind], seen: guard.events.slice(from) });
      if (outcome?.event !== "outcome") break;
    } else measured.ownUs.push(outcome.stopUs);
    const first = number < order.length;
    measured.stops.push(...readStops(program, measured.stops.length).map((stop) => ({ ...stop, first })));
    for (let trip = 0; trip < trips; trip += 1) measured.tripsUs.push(await twin.roundTripUs());
  }
  return measured;
}

const summary = (values: readonly number[]) => ({
  ...{ count: values.length, median: rounded(median(values)), p99: rounded(quantile(values, 0.99)) },
  max: rounded(Math.max(...values)),
});

function results({ stops, tripsUs, ownUs }: Measured, faults: number, trips: number): Record<string, unknown> {
  const later = stops.filter((stop) => !stop.first).map((stop) => stop.us);
  const roundTripUs = median(tripsUs);
  const interval = medianInterval(later, seed);
  const blocks = Array.from({ length: 10 }, (_, block) => {
    const length = Math.max(1, Math.floor(tripsUs.length / 10));
    return median(tripsUs.slice(block * length, (block + 1) * length));
  });
  return {
    faults: `${stops.length} of ${faults} returned from, ${trips} round trips after each`,
    roundTripUs: summary(tripsUs),
    stopUs: summary(later),
    medianInRoundTrips: rounded(median(later) / roundTripUs),
    medianInRoundTripsInterval: {
      low: rounded(interval.low / roundTripUs),
      high: rounded(interval.high / roundTripUs),
    },
    p99InRoundTrips: rounded(quantile(later, 0.99) / roundTripUs),
    firstOfEachKindUs: Object.fromEntries(
      stops.filter((stop) => stop.first).map((stop) => [kinds[stop.kind], rounded(stop.us)]),
    ),
    ...Object.fromEntries(
      order.map((kind) => [
        `${kinds[kind]}, us`,
        summary(stops.filter((stop) => !stop.first && stop.kind === kind).map((stop) => stop.us)),
      ]),
    ),
    returnedValues: Object.fromEntries(
      order.map((kind) => [
        kinds[kind],
        [...new Set(stops.filter((stop) => stop.kind === kind).map((stop) => Number(stop.value)))],
      ]),
    ),
    guardsOwnClockUs: summary(ownUs),
    control: controlResult(blocks),
  };
}

const ownHoldfast = [process.execPath, join(import.meta.dir, "../../src/cli/main.ts")];
const flags = readFlags(process.argv.slice(2), { faults: 300, trips: 10 });
const [faults, trips] = [flags.numbers.faults!, flags.numbers.trips!];
const measured = await measure(faults, trips);
const report = { name: "stop", seed, rounds: measured.stops.length, failed_runs: measured.failed };
await publish({ ...report, results: results(measured, faults, trips) }, flags.json);
process.exit(measured.failed.length === 0 ? 0 : 1);
