// SPDX-License-Identifier: Apache-2.0
/**
 * The demo: a real redis-server under guard, bystanders that check every answer, and a killer that crashes it again and again.
 *
 * Gets options and a display; gives a report. Uses a private server on a free port, started through `holdfast guard --json`
 * as a user would, and removes everything at the end, also when it is aborted. Touches nothing else on the machine.
 */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Clock } from "#clock.ts";
import { TaskGroup } from "#tasks.ts";
import { Bystanders } from "./bystanders.ts";
import { frameResp } from "./framing.ts";
import { GuardProcess } from "./guardProcess.ts";
import { startTicksOf } from "./processFacts.ts";
import { redisTraffic } from "./redisTraffic.ts";
import { addSample, type Scene, sampleMs } from "./scene.ts";
import type { Display } from "./screen.ts";
import { prepareServer, waitUntilServing } from "./serverProcess.ts";
import { fire } from "./shot.ts";
import { type DemoReport, report } from "./summary.ts";
import { triggersOf } from "./triggers.ts";

export type DemoOptions = {
  /** How `holdfast` is run. */
  readonly holdfast: readonly string[];
  /** How long the killer goes on; null: once through its list. */
  readonly seconds: number | null;
  /** Where the faults are recorded; null: in a directory that is removed at the end. */
  readonly state: string | null;
  readonly seed: number;
  readonly clock: Clock;
  readonly display: Display;
  readonly signal: AbortSignal;
};

export const demoBystanders = 50;
/** Far below what redis can do, so that a pause shows as a dip and not as noise of a busy machine. */
const requestsPerSecond = 4_000;
const quietMs = 1_000;
const rounds = 1_000;

/** @throws ProgramError where server or guard cannot be started, and the abort reason where it is aborted. */
export async function runDemo(options: DemoOptions): Promise<DemoReport> {
  const { clock, display, signal } = options;
  const scratch = await mkdtemp(join(tmpdir(), "holdfast-demo-"));
  await using _scratch = { [Symbol.asyncDispose]: () => rm(scratch, { recursive: true, force: true }) };
  await using server = await prepareServer("redis-server");
  const { port } = server.place;
  const plan =
    `Starts a redis-server of its own under guard on port ${port}, lets ${demoBystanders} clients talk to it, and sends it ` +
    "commands that really crash it, one by one. Nothing else on this machine is touched.";
  display.say(plan);
  display.event("demoPlan", { plan });
  await using guard = new GuardProcess({
    holdfast: options.holdfast,
    guardArguments: [
      "--name",
      `demo-${process.pid}`,
      "--state",
      options.state ?? join(scratch, "state"),
      "--",
      ...server.command,
    ],
    logPath: join(scratch, "log"),
    onLine: (line) => display.guardLine(line),
  });
  const { pid } = await unlessAborted(guard.guarding(), signal);
  await unlessAborted(waitUntilServing(server, guard.exited, clock), signal);
  const startTicks = startTicksOf(pid);
  await using bystanders = await Bystanders.start({
    ...{ port, connections: demoBystanders, framing: frameResp, traffic: redisTraffic, clock, seed: options.seed },
    pace: { kind: "open", requestsPerSecond },
  });
  display.event("demoStart", { pid, port, bystanders: demoBystanders, requestsPerSecond, seed: options.seed });
  const scene = openScene(`holdfast demo: redis-server, PID ${pid}, port ${port}`, clock.monotonicNs(), bystanders);
  try {
    await using watch = new TaskGroup(signal);
    watch.start((stop) => sample(scene, bystanders, options, stop));
    await crashAgainAndAgain(scene, { ...options, signal: watch.signal }, guard, port, pid);
  } finally {
    display.finish();
  }
  signal.throwIfAborted();
  const counts = await bystanders.stop();
  return report(scene, counts, { pid, samePid: startTicks !== null && startTicksOf(pid) === startTicks, guard });
}

/** Round after round through the list, until time is up or the program is gone. */
async function crashAgainAndAgain(
  scene: Scene,
  options: DemoOptions,
  guard: GuardProcess,
  port: number,
  pid: number,
): Promise<void> {
  const { clock, signal, seconds, display } = options;
  const timeLeftMs = (): number =>
    seconds === null ? Number.POSITIVE_INFINITY : seconds * 1_000 - (clock.monotonicNs() - scene.startedNs) / 1e6;
  const list = triggersOf("redis-server");
  const shotsMax = seconds === null ? list.length : list.length * rounds;
  for (let number = 0; number < shotsMax; number += 1) {
    const trigger = list[number % list.length]!;
    const known = scene.shots.find((shot) => shot.trigger === trigger);
    if (known?.state === "fixed") continue; // this package has it fixed: no second try
    await clock.sleep(Math.min(quietMs, Math.max(0, timeLeftMs())), signal);
    if (timeLeftMs() <= 0) return;
    const shot = await fire(trigger, number, { scene, guard, port, pid, clock, signal, display });
    if (shot.state === "lost") return;
  }
}

async function sample(scene: Scene, bystanders: Bystanders, options: DemoOptions, stop: AbortSignal): Promise<void> {
  const { clock, display } = options;
  for (;;) {
    await clock.sleep(sampleMs, stop);
    addSample(scene, clock.monotonicNs(), bystanders.counts());
    if (scene.samples % (1_000 / sampleMs) === 0) {
      const { right, wrong, missing, lost, latency } = scene.bystanders;
      display.event("demoLoad", { second: scene.samples / (1_000 / sampleMs), right, wrong, missing, lost, latency });
    }
    display.draw(scene);
  }
}

const openScene = (title: string, startedNs: number, bystanders: Bystanders): Scene => ({
  ...{ title, startedNs, nowNs: startedNs, rates: [], samples: 0 },
  bystanders: bystanders.counts(),
  shots: [],
});

/** The value, or the abort reason as soon as there is one. */
async function unlessAborted<Value>(promise: Promise<Value>, signal: AbortSignal): Promise<Value> {
  const aborted = Promise.withResolvers<never>();
  const abort = (): void => aborted.reject(signal.reason);
  if (signal.aborted) abort();
  signal.addEventListener("abort", abort, { once: true });
  try {
    return await Promise.race([promise, aborted.promise]);
  } finally {
    signal.removeEventListener("abort", abort);
    aborted.promise.catch(() => {});
    promise.catch(() => {});
  }
}
