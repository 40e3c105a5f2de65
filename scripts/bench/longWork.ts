// SPDX-License-Identifier: Apache-2.0
/**
 * False alarms of the search for hangs: a guarded redis-server that is busy without a pause, and one that works on single
 * requests for long. No fault must be reported, and every request must be answered.
 *
 * Busy, with limits twenty times below the usual ones (`--hang 0.5,1.5`): many clients over TCP with deep pipelines, one client
 * and many over a unix socket, `--seconds S` each. Long, with the usual limits: KEYS and SORT over large data, DEBUG SLEEP
 * beyond the limit, and a script without an end, which redis itself deals with after 5 s by answering BUSY; a bystander asks
 * all the time. Gives the alarms of each part. `--keys N`, `--json FILE`. Exit code 1 where there was one.
 */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { GuardProcess } from "#appliance/demo/guardProcess.ts";
import { prepareServer, waitUntilServing } from "#appliance/demo/serverProcess.ts";
import { systemClock } from "#clock.ts";
import { publish, readFlags } from "./benchReport.ts";

const sleepSeconds = 12;
const scriptSeconds = 14;
const askEveryMs = 100;
const patienceMs = 60_000;

type Scene = { readonly port: number; readonly socket: string; readonly alarms: () => number };
type Part = { readonly name: string; readonly work: (scene: Scene) => Promise<void> };

async function run(command: readonly string[], patience = patienceMs): Promise<void> {
  const child = Bun.spawn([...command], { stdio: ["ignore", "ignore", "ignore"] });
  const late = new AbortController();
  void systemClock.sleep(patience, late.signal).then(
    () => child.kill("SIGKILL"),
    () => {},
  );
  await child.exited;
  late.abort();
}

const endless = "1000000000";
const load = (words: readonly string[], seconds: number): Promise<void> =>
  run(["redis-benchmark", ...words, "-n", endless, "-t", "get", "-q"], seconds * 1000);
const ask = ({ port }: Scene, ...words: string[]): Promise<void> => run(["redis-cli", "-p", `${port}`, ...words]);

const busyParts = (seconds: number): Part[] => [
  { name: "50 clients, TCP", work: ({ port }) => load(["-p", `${port}`, "-c", "50", "-P", "32"], seconds) },
  { name: "1 client, unix socket", work: ({ socket }) => load(["-s", socket, "-c", "1", "-P", "200"], seconds) },
  { name: "50 clients, unix socket", work: ({ socket }) => load(["-s", socket, "-c", "50", "-P", "32"], seconds) },
];

const longParts = (keys: number): Part[] => [
  { name: "DEBUG POPULATE", work: (scene) => ask(scene, "DEBUG", "POPULATE", `${keys}`) },
  { name: "KEYS", work: (scene) => ask(scene, "KEYS", "*") },
  {
    name: "SORT",
    work: async (scene) => {
      const fill = `for i=1,${Math.floor(keys / 5)} do redis.call('lpush','l',math.random(1000000)) end`;
      await ask(scene, "EVAL", fill, "0");
      await ask(scene, "SORT", "l");
    },
  },
  { name: "DEBUG SLEEP", work: (scene) => ask(scene, "DEBUG", "SLEEP", `${sleepSeconds}`) },
  {
    name: "a script without an end",
    work: async (scene) => {
      await run(["redis-cli", "-p", `${scene.port}`, "EVAL", "while true do end", "0"], scriptSeconds * 1000);
      await ask(scene, "SCRIPT", "KILL");
    },
  },
];

async function measure(
  parts: readonly Part[],
  hang: readonly string[],
  bystander: boolean,
): Promise<Record<string, number>> {
  const scratch = await mkdtemp(join(tmpdir(), "holdfast-bench-"));
  await using _scratch = { [Symbol.asyncDispose]: () => rm(scratch, { recursive: true, force: true }) };
  await using server = await prepareServer("redis-server");
  const socket = join(scratch, "redis.sock");
  const where = ["--name", `bench-long-${process.pid}-${parts.length}`, "--state", join(scratch, "state"), ...hang];
  const command = [...server.command, "--unixsocket", socket, "--enable-debug-command", "local"];
  await using guard = new GuardProcess({
    ...{ holdfast: ownHoldfast, guardArguments: [...where, "--", ...command], logPath: join(scratch, "log") },
  });
  await guard.guarding();
  await waitUntilServing(server, new Promise(() => {}), systemClock);
  const alarms = (): number => guard.events.filter((event) => event.event === "fault").length;
  const scene = { port: server.place.port, socket, alarms };
  const end = new AbortController();
  const asking = bystander ? askOnAndOn(scene, end.signal) : Promise.resolve();
  const found: Record<string, number> = {};
  for (const { name, work } of parts) {
    const before = alarms();
    await work(scene);
    found[name] = alarms() - before;
  }
  end.abort();
  await asking;
  return found;
}

async function askOnAndOn(scene: Scene, signal: AbortSignal): Promise<void> {
  while (!signal.aborted) {
    await ask(scene, "PING");
    await systemClock.sleep(askEveryMs, signal).catch(() => {});
  }
}

const ownHoldfast = [process.execPath, join(import.meta.dir, "../../src/cli/main.ts")];
const flags = readFlags(process.argv.slice(2), { seconds: 10, keys: 1_000_000 });
const { seconds, keys } = flags.numbers as { seconds: number; keys: number };
const busy = await measure(busyParts(seconds), ["--hang", "0.5,1.5"], false);
const longWork = await measure(longParts(keys), [], true);
const alarms = [...Object.values(busy), ...Object.values(longWork)].reduce((sum, one) => sum + one, 0);
const results = { alarms, "busy, limits 0.5 and 1.5 s": busy, "long, usual limits": longWork };
await publish({ name: "longWork", seed: 0, rounds: 1, failed_runs: [], results }, flags.json);
process.exit(alarms === 0 ? 0 : 1);
