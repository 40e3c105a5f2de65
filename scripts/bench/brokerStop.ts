// SPDX-License-Identifier: Apache-2.0
/**
 * Stop time with telemetry and a broker in each state, against stop time without telemetry, in one run.
 *
 * Two guards side by side, one plain and one with a `[telemetry]` section, each over a copy of a program that times its own
 * faults (stop.c). For each state of a real Mosquitto behind TLS, both take the same fault in turn (A B B A), after random
 * pauses, as faults come: one that follows a verdict at once meets the work for that verdict. Gives the median of the ratios
 * of pairs and its interval, for each state and for all; the aim is 1.1 at most. `--seconds N` in all, `--json FILE`;
 * `--first N --last N` measures these states only (the first is 0) and comes by the others: more pairs for each.
 */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { GuardProcess } from "#appliance/demo/guardProcess.ts";
import { seededRandom, systemClock } from "#clock.ts";
import { IllBroker } from "#tests/peers/illBroker.ts";
import { publish, readFlags, rounded } from "./benchReport.ts";
import { compileOrdered, type OrderedProgram } from "./orderedProgram.ts";
import { median, medianInterval, quantile } from "./statistics.ts";

const order = ["l", "s", "c", "d", "a"] as const;
const outcomeMsMax = 20_000;
const warmPairs = 10;
/** Two guards and a broker start and warm up before the first state. */
const startSeconds = 25;
const settleMs = 500;
const pauseMsMax = 100;
const seed = 1;
/** Metrics as often as is allowed, and back at the broker as soon as it is. */
const quick = ["metricsEveryMs = 1000", "keepAliveMs = 2000", "connectSpreadMs = 0", "reconnectMsMax = 1000"];

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

/** The same fault without and with telemetry, us. */
type Pair = { readonly plainUs: number; readonly toldUs: number };

/** Pairs until `done`, the two sides in turn first. Faults that were not survived are counted, not paired. */
async function pairsUntil(plain: Side, told: Side, done: (pairs: number) => boolean) {
  const random = seededRandom(seed);
  const pairs: Pair[] = [];
  let failed = 0;
  const one = async (side: Side): Promise<number | null> => {
    await systemClock.sleep(pauseMsMax * random());
    return await side.fault();
  };
  for (let round = 0; !done(round); round += 1) {
    const first = await one(round % 2 === 0 ? plain : told);
    const second = await one(round % 2 === 0 ? told : plain);
    const [plainUs, toldUs] = round % 2 === 0 ? [first, second] : [second, first];
    if (plainUs === null || toldUs === null) failed += 1;
    else pairs.push({ plainUs, toldUs });
  }
  return { pairs, failed };
}

function summaryOf(pairs: readonly Pair[]): Record<string, number> {
  const ratios = pairs.map(({ plainUs, toldUs }) => toldUs / plainUs);
  const { low, high } = medianInterval(ratios, seed);
  const [plain, told] = [pairs.map(({ plainUs }) => plainUs), pairs.map(({ toldUs }) => toldUs)];
  return {
    ...{ pairs: pairs.length, ratio: rounded(median(ratios), 3), low: rounded(low, 3), high: rounded(high, 3) },
    ...{ plainUs: rounded(median(plain)), toldUs: rounded(median(told)) },
    ...{ plainP99Us: rounded(quantile(plain, 0.99)), toldP99Us: rounded(quantile(told, 0.99)) },
  };
}

const flags = readFlags(process.argv.slice(2), { seconds: 240, first: 0, last: 99 });
const scratch = await mkdtemp(join(tmpdir(), "holdfast-bench-"));
const results: Record<string, unknown> = {};
const failures: unknown[] = [];
{
  await using broker = await IllBroker.start("bench");
  const config = join(scratch, "holdfast.toml");
  await Bun.write(config, [...broker.section, `device = "bench"`, ...quick, ""].join("\n"));
  await using plain = await Side.open("plain", [], scratch);
  await using told = await Side.open("told", ["--config", config], scratch);
  await pairsUntil(plain, told, (pairs) => pairs === warmPairs);
  const all: Pair[] = [];
  const { seconds = 240, first = 0, last = 99 } = flags.numbers;
  const measured = broker.states.slice(first, last + 1);
  const eachNs = ((seconds - startSeconds) / measured.length) * 1e9;
  for (const state of broker.states) {
    if (!measured.includes(state)) {
      await broker.make(state);
      continue;
    }
    const endNs = systemClock.monotonicNs() + eachNs;
    await broker.make(state);
    await systemClock.sleep(settleMs);
    const { pairs, failed } = await pairsUntil(plain, told, (made) => made > 1 && systemClock.monotonicNs() > endNs);
    results[state] = summaryOf(pairs);
    all.push(...pairs);
    if (failed > 0) failures.push({ state, failed });
  }
  results.all = summaryOf(all);
}
await rm(scratch, { recursive: true, force: true });
await publish({ name: "brokerStop", seed, rounds: flags.numbers.seconds!, results, failed_runs: failures }, flags.json);
process.exit(failures.length === 0 ? 0 : 1);
