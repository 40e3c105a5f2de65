// SPDX-License-Identifier: Apache-2.0
/**
 * What one client that comes back whenever it is cut, and kills again, costs all others: throughput of bystanders of a guarded
 * redis-server while it does, against their throughput in peace, in the same run.
 *
 * Each round has a server and a guard of its own, and two spans of equal length, attacked first in every second round. The
 * killer sends `DEBUG SEGFAULT` and connects again as soon as its connection ends. Gives the ratio of each round, their
 * median with its 95 % interval, and how often the killer came. `--rounds N`, `--seconds S` a span, `--clients N`,
 * `--json FILE`. Exit code 1 where the median ratio is below 0.8 or a bystander was cut.
 */
import { mkdtemp, rm } from "node:fs/promises";
import { connect, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { GuardProcess } from "#appliance/demo/guardProcess.ts";
import { encodeCommand } from "#appliance/demo/redisTraffic.ts";
import { prepareServer, waitUntilServing } from "#appliance/demo/serverProcess.ts";
import { systemClock } from "#clock.ts";
import { publish, readFlags, rounded } from "./benchReport.ts";
import { median, medianInterval } from "./statistics.ts";

const seed = 1;
const leastRatio = 0.8;
const settleMs = 300;

type Round = { readonly quietPerSecond: number; readonly attackedPerSecond: number; readonly kills: number };
type Crowd = Disposable & { readonly answers: () => number; readonly cut: () => number };

const open = (port: number): Promise<Socket> =>
  new Promise((resolve, reject) => {
    const socket = connect(port, "127.0.0.1", () => resolve(socket)).on("error", reject);
  });

/** Clients that each ask again as soon as they are answered. */
async function openCrowd(port: number, clients: number): Promise<Crowd> {
  const sockets = await Promise.all(Array.from({ length: clients }, () => open(port)));
  const [question, answer] = [encodeCommand(["INCR", "bench"]), /^:\d+\r\n$/];
  let [answers, cut] = [0, 0];
  let isOver = false;
  for (const socket of sockets) {
    socket.on("data", (bytes) => {
      if (answer.test(bytes.toString("latin1"))) answers += 1;
      if (!isOver) socket.write(question);
    });
    socket.on("close", () => {
      if (!isOver) cut += 1;
    });
    socket.write(question);
  }
  return {
    answers: () => answers,
    cut: () => cut,
    [Symbol.dispose]: () => {
      isOver = true;
      for (const socket of sockets) socket.destroy();
    },
  };
}

/** Kills until it is told to stop; gives how often. */
async function killOnAndOn(port: number, signal: AbortSignal): Promise<number> {
  for (let kills = 0; ; kills += 1) {
    if (signal.aborted) return kills;
    const socket = await open(port);
    const closed = new Promise<void>((resolve) => socket.on("close", () => resolve()));
    const stop = (): void => void socket.destroy();
    signal.addEventListener("abort", stop, { once: true });
    socket.write(encodeCommand(["DEBUG", "SEGFAULT"]));
    await closed;
    signal.removeEventListener("abort", stop);
  }
}

async function perSecond(crowd: Crowd, seconds: number): Promise<number> {
  const [before, startNs] = [crowd.answers(), systemClock.monotonicNs()];
  await systemClock.sleep(seconds * 1000);
  return ((crowd.answers() - before) * 1e9) / (systemClock.monotonicNs() - startNs);
}

async function measure(
  port: number,
  seconds: number,
  clients: number,
  attackFirst: boolean,
): Promise<Round & { cut: number }> {
  using crowd = await openCrowd(port, clients);
  await systemClock.sleep(settleMs);
  const [span, rates] = [new Map<boolean, number>(), [attackFirst, !attackFirst]];
  let kills = 0;
  for (const attacked of rates) {
    const end = new AbortController();
    const killing = attacked ? killOnAndOn(port, end.signal) : Promise.resolve(0);
    span.set(attacked, await perSecond(crowd, seconds));
    end.abort();
    kills += await killing;
  }
  const [quietPerSecond, attackedPerSecond] = [rounded(span.get(false)!), rounded(span.get(true)!)];
  return { quietPerSecond, attackedPerSecond, kills, cut: crowd.cut() };
}

async function runRound(number: number, seconds: number, clients: number): Promise<Round & { cut: number }> {
  const scratch = await mkdtemp(join(tmpdir(), "holdfast-bench-"));
  await using _scratch = { [Symbol.asyncDispose]: () => rm(scratch, { recursive: true, force: true }) };
  await using server = await prepareServer("redis-server");
  const where = ["--name", `bench-killer-${process.pid}-${number}`, "--state", join(scratch, "state")];
  await using guard = new GuardProcess({
    ...{
      holdfast: ownHoldfast,
      guardArguments: [...where, "--", ...server.command, "--enable-debug-command", "local"],
    },
    logPath: join(scratch, "log"),
  });
  await guard.guarding();
  await waitUntilServing(server, new Promise(() => {}), systemClock);
  return await measure(server.place.port, seconds, clients, number % 2 === 1);
}

const ownHoldfast = [process.execPath, join(import.meta.dir, "../../src/cli/main.ts")];
const flags = readFlags(process.argv.slice(2), { rounds: 6, seconds: 5, clients: 20 });
const { rounds, seconds, clients } = flags.numbers as { rounds: number; seconds: number; clients: number };
const done: (Round & { cut: number })[] = [];
for (let number = 0; number < rounds; number += 1) done.push(await runRound(number, seconds, clients));
const ratios = done.map(({ quietPerSecond, attackedPerSecond }) => attackedPerSecond / quietPerSecond);
const [ratio, interval] = [median(ratios), medianInterval(ratios, seed)];
const cut = done.reduce((sum, round) => sum + round.cut, 0);
const results = {
  attackedToQuiet: rounded(ratio, 3),
  interval: { low: rounded(interval.low, 3), high: rounded(interval.high, 3) },
  bystandersCut: cut,
  rounds: done.map((round, index) => ({ ...round, ratio: rounded(ratios[index]!, 3) })),
};
await publish({ name: "returningKiller", seed, rounds, failed_runs: [], results }, flags.json);
process.exit(ratio >= leastRatio && cut === 0 ? 0 : 1);
