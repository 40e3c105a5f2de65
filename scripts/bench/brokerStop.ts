// SPDX-License-Identifier: Apache-2.0
/**
 * Stop time with telemetry and a broker in each state, against stop time without telemetry, in one run.
 *
 * Two guards side by side, one plain and one with a `[telemetry]` section, each over a copy of a program that times its own
 * faults (stop.c). For each state of a real Mosquitto, faults alternate between the two (A B B A), after random pauses, as
 * faults come: one that follows a verdict at once meets the work for that verdict. Gives medians and their ratio; the aim is 1.1 at most in every state. `--faults N` for each state and guard, `--json FILE`.
 */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { GuardProcess } from "#appliance/demo/guardProcess.ts";
import { seededRandom, systemClock } from "#clock.ts";
import { Mosquitto } from "#tests/peers/mosquitto.ts";
import { publish, readFlags, rounded } from "./benchReport.ts";
import { compileOrdered, type OrderedProgram } from "./orderedProgram.ts";
import { median, medianInterval, quantile } from "./statistics.ts";

const order = ["l", "s", "c", "d", "a"] as const;
const outcomeMsMax = 20_000;
const warmFaults = 15;
const settleMs = 500;
const pauseMsMax = 100;
const seed = 1;
/** Metrics as often as is allowed, and back at the broker as soon as it is. */
const quick = ["metricsEveryMs = 1000", "keepAliveMs = 2000", "connectSpreadMs = 0", "reconnectMsMax = 1000"];

/** What is done to the broker before the faults of a state. */
const states: Readonly<Record<string, (broker: Mosquitto) => Promise<unknown>>> = {
  healthy: async () => {},
  slow: async (broker) => void pulse(broker),
  frozen: async (broker) => broker.freeze(),
  "back after being frozen, draining": async (broker) => broker.thaw(),
  killed: (broker) => broker.kill(),
  "started again without its memory": (broker) => broker.start(),
  refusing: (broker) => broker.refuseAll(),
  full: (broker) => broker.overfill(),
};

let pulsing = false;
async function pulse(broker: Mosquitto): Promise<void> {
  pulsing = true;
  while (pulsing) {
    broker.freeze();
    await systemClock.sleep(80);
    broker.thaw();
    await systemClock.sleep(20);
  }
}

/** Microseconds from before the fault until the abandoned call had returned, by the program's own clock (see stop.c). */
function lastStopUs(program: OrderedProgram): number {
  const bytes = program.shared();
  const count = Number(bytes.u64());
  bytes.position = 32 * count;
  bytes.u64();
  bytes.u64();
  const startNs = bytes.u64();
  return Number(bytes.u64() - startNs) / 1_000;
}

class Side implements AsyncDisposable {
  #faults = 0;

  static async open(name: string, words: readonly string[], scratch: string): Promise<Side> {
    const program = await compileOrdered("stop");
    const where = ["--name", `${name}-${process.pid}`, "--state", join(scratch, name)];
    const holdfast = [process.execPath, join(import.meta.dir, "../../src/cli/main.ts")];
    const guardArguments = [...where, ...words, "--", ...program.command];
    const guard = new GuardProcess({ holdfast, guardArguments, logPath: join(scratch, `${name}.log`) });
    await guard.guarding();
    return new Side(program, guard);
  }

  private constructor(
    private readonly program: OrderedProgram,
    private readonly guard: GuardProcess,
  ) {}

  /** One fault; null where it was not survived. */
  async fault(): Promise<number | null> {
    const from = this.guard.events.length;
    this.program.order(order[this.#faults % order.length]!);
    this.#faults += 1;
    const end = await this.guard.waitFor(({ event }) => event === "outcome" || event === "exit", outcomeMsMax, from);
    return end?.event === "outcome" && end.verdict !== "failed" ? lastStopUs(this.program) : null;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.guard[Symbol.asyncDispose]();
    await this.program[Symbol.asyncDispose]();
  }
}

type Pairs = { readonly plain: number[]; readonly told: number[]; failed: number };

async function measureState(plain: Side, told: Side, faults: number): Promise<Pairs> {
  const random = seededRandom(seed);
  const pairs: Pairs = { plain: [], told: [], failed: 0 };
  for (let round = 0; round < faults; round += 1) {
    const turns =
      round % 2 === 0
        ? ([
            ["plain", plain],
            ["told", told],
          ] as const)
        : ([
            ["told", told],
            ["plain", plain],
          ] as const);
    for (const [name, side] of turns) {
      await systemClock.sleep(pauseMsMax * random());
      const us = await side.fault();
      if (us === null) pairs.failed += 1;
      else pairs[name].push(us);
    }
  }
  return pairs;
}

const flags = readFlags(process.argv.slice(2), { faults: 60 });
const scratch = await mkdtemp(join(tmpdir(), "holdfast-bench-"));
const results: Record<string, unknown> = {};
const failed: unknown[] = [];
{
  await using broker = await Mosquitto.start();
  const config = join(scratch, "holdfast.toml");
  await Bun.write(config, [`[telemetry]`, `broker = "${broker.url}"`, `device = "bench"`, ...quick, ""].join("\n"));
  await using plain = await Side.open("plain", [], scratch);
  await using told = await Side.open("told", ["--config", config], scratch);
  await measureState(plain, told, warmFaults);
  for (const [name, make] of Object.entries(states)) {
    pulsing = false;
    await make(broker);
    await systemClock.sleep(settleMs);
    const pairs = await measureState(plain, told, flags.numbers.faults!);
    const ratio = median(pairs.told) / median(pairs.plain);
    const scaled = medianInterval(
      pairs.told.map((us) => us / median(pairs.plain)),
      seed,
    );
    results[name] = {
      ...{ plainUs: rounded(median(pairs.plain)), toldUs: rounded(median(pairs.told)), ratio: rounded(ratio, 3) },
      ...{ low: rounded(scaled.low, 3), high: rounded(scaled.high, 3) },
      ...{ plainP99Us: rounded(quantile(pairs.plain, 0.99)), toldP99Us: rounded(quantile(pairs.told, 0.99)) },
    };
    if (pairs.failed > 0) failed.push({ state: name, failed: pairs.failed });
  }
}
await rm(scratch, { recursive: true, force: true });
await publish({ name: "brokerStop", seed, rounds: flags.numbers.faults!, results, failed_runs: failed }, flags.json);
process.exit(failed.length === 0 ? 0 : 1);
