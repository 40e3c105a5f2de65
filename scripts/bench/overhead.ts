// SPDX-License-Identifier: Apache-2.0
/**
 * What guarding costs while nothing faults: redis guarded against redis unguarded, in the same run, interleaved.
 *
 * Three servers stand ready: unguarded, guarded, and a second unguarded one as the control. Each round loads each of them
 * twice by redis-benchmark (50 clients; GET and SET in turn), there and back (A B C C B A), and the next round begins with
 * the next one. Gives the
 * median paired throughput ratio guarded to unguarded with its 95 % interval, the same for the control, p99.9 of all three,
 * the same ratios for the server's processor time a request, which other work on the machine disturbs less,
 * and whether gdbserver is scheduled during a load while the supervisor is halted: if not once, there was no ptrace stop.
 * `--rounds N` (at least 20 for figures to quote), `--requests N` a load, `--json FILE`.
 */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { GuardProcess } from "#appliance/demo/guardProcess.ts";
import { contextSwitchesOf, processorTicksOf, runTimeNsOf, tracerOf } from "#appliance/demo/processFacts.ts";
import { prepareServer, startServer, waitUntilServing } from "#appliance/demo/serverProcess.ts";
import { systemClock } from "#clock.ts";
import { ProgramError } from "#errors.ts";
import { controlResult, publish, readFlags, rounded } from "./benchReport.ts";
import { median, medianInterval, quantile } from "./statistics.ts";

const seed = 1;
const clients = 50;
const commands = ["get", "set"] as const;
const arms = ["unguarded", "guarded", "control"] as const;
type Arm = (typeof arms)[number];
type Load = { readonly perSecond: number; readonly p999Ms: number; readonly processorUs: number };
type Target = { readonly port: number; readonly pid: number };
type Loads = Record<Arm, Load[]>;

/** One load. @throws ProgramError where redis-benchmark is missing or says something else. */
async function load({ port, pid }: Target, command: string, requests: number): Promise<Load> {
  const ranNs = runTimeNsOf(pid, pid);
  const words = ["-h", "127.0.0.1", "-p", `${port}`, "-c", `${clients}`, "-n", `${requests}`, "-t", command];
  const child = Bun.spawn(["redis-benchmark", ...words, "--precision", "3"], { stdout: "pipe", stderr: "ignore" });
  const said = await child.stdout.text();
  const perSecond = Number(/throughput summary: ([\d.]+) requests per second/.exec(said)?.[1]);
  // The listing has a line for each percentile at which the latency grew: the first at or above 99.9 is the one.
  const lines = [...said.matchAll(/^([\d.]+)% <= ([\d.]+) milliseconds/gm)];
  const p999Ms = Number(lines.find(([, percent]) => Number(percent) >= 99.9)?.[2]);
  if (!(perSecond > 0 && p999Ms > 0)) {
    throw new ProgramError("program.gone", `redis-benchmark gave no figures: ${said.slice(-200)}`, { port });
  }
  return { perSecond, p999Ms, processorUs: (runTimeNsOf(pid, pid) - ranNs) / 1_000 / requests };
}

type Run = { readonly loads: Loads; readonly idle: Idleness; readonly failed: unknown[]; switchesHalted: number };
type Idleness = { gdbserverSwitches: number; supervisorMs: number; loadMs: number };
/** Loads during which the supervisor is halted and asks nothing: what wakes gdbserver then is a stop of the program. */
const haltedLoads = 4;
/** For an answer that is under way. */
const settleMs = 200;

async function measure(rounds: number, requests: number): Promise<Run> {
  const scratch = await mkdtemp(join(tmpdir(), "holdfast-bench-"));
  await using _scratch = { [Symbol.asyncDispose]: () => rm(scratch, { recursive: true, force: true }) };
  await using plain = await startServer("redis-server", systemClock);
  await using control = await startServer("redis-server", systemClock);
  await using server = await prepareServer("redis-server");
  const where = ["--name", `bench-overhead-${process.pid}`, "--state", join(scratch, "state")];
  await using guard = new GuardProcess({
    ...{ holdfast: [process.execPath, join(import.meta.dir, "../../src/cli/main.ts")], logPath: join(scratch, "log") },
    guardArguments: [...where, "--", ...server.command],
  });
  const { pid } = await guard.guarding();
  await waitUntilServing(server, guard.exited, systemClock);
  const targets: Record<Arm, Target> = { unguarded: plain, guarded: { port: server.place.port, pid }, control };
  const run: Run = {
    loads: { unguarded: [], guarded: [], control: [] },
    idle: { gdbserverSwitches: 0, supervisorMs: 0, loadMs: 0 },
    switchesHalted: 0,
    failed: [],
  };
  for (const arm of arms) await load(targets[arm], "set", requests); // warm
  for (let round = 0; round < rounds; round += 1) {
    const command = commands[Math.floor(round / 2) % commands.length]!;
    const order = arms.map((_, index) => arms[(index + round) % arms.length]!);
    const halves: Loads = { unguarded: [], guarded: [], control: [] };
    for (const arm of [...order, ...order.toReversed()]) {
      const loading = (): Promise<Load> => load(targets[arm], command, requests);
      const done = arm === "guarded" ? await watched(loading, tracerOf(pid), guard.pid, run.idle) : await loading();
      halves[arm].push(done);
    }
    for (const arm of arms) run.loads[arm].push(together(halves[arm]));
  }
  run.switchesHalted = await whileHalted(guard.pid, tracerOf(pid), async () => {
    for (let count = 0; count < haltedLoads; count += 1)
      await load(targets.guarded, commands[count % commands.length]!, requests);
  });
  if (tracerOf(pid) === 0) run.failed.push("the guarded server was not traced at the end");
  run.failed.push(...guard.events.filter((event) => event.event !== "guarding"));
  return run;
}

/** Two loads of one size as one: requests over the whole time. */
function together(halves: readonly Load[]): Load {
  const times = halves.map(({ perSecond }) => 1 / perSecond);
  return {
    perSecond: halves.length / times.reduce((sum, time) => sum + time, 0),
    p999Ms: Math.max(...halves.map(({ p999Ms }) => p999Ms)),
    processorUs: halves.reduce((sum, { processorUs }) => sum + processorUs, 0) / halves.length,
  };
}

/** How often gdbserver was scheduled during `work`, with the supervisor halted. */
async function whileHalted(supervisorPid: number, gdbserverPid: number, work: () => Promise<void>): Promise<number> {
  process.kill(supervisorPid, "SIGSTOP");
  try {
    await systemClock.sleep(settleMs);
    const before = contextSwitchesOf(gdbserverPid, [gdbserverPid]);
    await work();
    return contextSwitchesOf(gdbserverPid, [gdbserverPid]) - before;
  } finally {
    process.kill(supervisorPid, "SIGCONT");
  }
}

/** Adds to `idle` how much gdbserver and the supervisor ran during this load. */
async function watched(
  loading: () => Promise<Load>,
  gdbserverPid: number,
  supervisorPid: number,
  idle: Idleness,
): Promise<Load> {
  const switches = contextSwitchesOf(gdbserverPid, [gdbserverPid]);
  const ticks = processorTicksOf(supervisorPid);
  const startNs = systemClock.monotonicNs();
  const done = await loading();
  idle.loadMs += (systemClock.monotonicNs() - startNs) / 1e6;
  idle.gdbserverSwitches += contextSwitchesOf(gdbserverPid, [gdbserverPid]) - switches;
  idle.supervisorMs += (processorTicksOf(supervisorPid) - ticks) * 10;
  return done;
}

/** Paired ratios, `arm` to unguarded. */
function ratioOf(loads: Loads, arm: Arm, read: (item: Load) => number): Record<string, number> {
  const ratios = loads[arm].map((item, index) => read(item) / read(loads.unguarded[index]!));
  const interval = medianInterval(ratios, seed);
  return {
    median: rounded(median(ratios), 4),
    low95: rounded(interval.low, 4),
    high95: rounded(interval.high, 4),
    lowest: rounded(Math.min(...ratios), 3),
    highest: rounded(Math.max(...ratios), 3),
  };
}

const flags = readFlags(process.argv.slice(2), { rounds: 30, requests: 25_000 });
const [rounds, requests] = [flags.numbers.rounds!, flags.numbers.requests!];
const { loads, idle, switchesHalted, failed } = await measure(rounds, requests);
const middles = (arm: Arm, read: (item: Load) => number): number => rounded(median(loads[arm].map(read)), 3);
const results = {
  throughputRatio: ratioOf(loads, "guarded", (item) => item.perSecond),
  throughputRatioOfControl: ratioOf(loads, "control", (item) => item.perSecond),
  processorRatio: ratioOf(loads, "guarded", (item) => item.processorUs),
  processorRatioOfControl: ratioOf(loads, "control", (item) => item.processorUs),
  requestsPerSecond: Object.fromEntries(arms.map((arm) => [arm, middles(arm, (item) => item.perSecond)])),
  p999Ms: Object.fromEntries(arms.map((arm) => [arm, middles(arm, (item) => item.p999Ms)])),
  worstP999Ms: Object.fromEntries(
    arms.map((arm) => [
      arm,
      quantile(
        loads[arm].map((item) => item.p999Ms),
        1,
      ),
    ]),
  ),
  gdbserverScheduledDuringLoad: idle.gdbserverSwitches,
  gdbserverScheduledSupervisorHalted: switchesHalted,
  noPtraceStop: switchesHalted === 0,
  supervisorProcessorShare: rounded(idle.supervisorMs / idle.loadMs, 4),
  control: controlResult(loads.unguarded.map((item) => item.perSecond)),
};
await publish({ name: "overhead", seed, rounds, results, failed_runs: failed }, flags.json);
process.exit(failed.length === 0 ? 0 : 1);
