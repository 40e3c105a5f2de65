// SPDX-License-Identifier: Apache-2.0
/**
 * How soon a guest is back, by a process that stands by and by one launched for it (`cold`): from the request until it runs,
 * against Cloud Hypervisor's own on-demand restore of the same memory, launched for it too; until its first answer, lazily
 * with what it touched the last time, against all of its memory written first; small memory against large; what standing by
 * costs; and how fast content arrives. Ratios of interleaved rounds in one run; needs /dev/kvm, Cloud Hypervisor v53.0 and gcc.
 *
 *     bun scripts/bench/restore.ts [--json FILE] [--rounds 10] [--seed 1] [--largeMiB 8192]
 *
 * Targets: request to running at most 1.25; to the first answer at most 1.10; large at most 1.25 small; content at least 0.20
 * of plain pwrite of 1 MiB into a memory file, with one thread.
 */
import { mkdirSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { MemoryFile } from "#board/native/memoryFile.ts";
import { systemClock } from "#clock.ts";
import { publish, readFlags } from "./benchReport.ts";
import { buildGuest, configOf, type GuestShape, Machine, mebibyte, Scene } from "./checkpointScene.ts";
import { type OurTimes, RestoreRuns, since } from "./restoreRuns.ts";
import { drift, median, medianInterval } from "./statistics.ts";

const { json, numbers } = readFlags(process.argv.slice(2), { rounds: 10, seed: 1, largeMiB: 8_192 });
const [rounds, seed] = [numbers.rounds!, numbers.seed!];
const smallMiB = 256;
const shapeOf = (memoryMiB: number): GuestShape => ({
  ...{ memoryMiB, fillMiB: 64, dirtyMiB: 4, workPages: 256, shared: true, tells },
});

using scene = new Scene();
const tells = join(scene.path, "serial");

const runs = new RestoreRuns(scene, tells);

async function snapshotOf(machine: Machine, name: string): Promise<string> {
  const place = join(scene.path, name);
  mkdirSync(place);
  await machine.hypervisor.call("vm.pause");
  await machine.hypervisor.call("vm.snapshot", { destination_url: `file://${place}` });
  return place;
}

/** Bytes of content a ms that an eager restore writes, read, unpacked and checked; against plain writes. */
async function drain(checkpoint: string): Promise<{ ours: number; plain: number }> {
  scene.checkpoints.expectRestore(`g${smallMiB}`);
  await systemClock.sleep(250);
  const settings = { checkpoint, guest: "none", mode: "eager", disks: {}, eagerBytesMax: 0, prefetchMsMax: 0 } as const;
  let fromNs = systemClock.monotonicNs();
  const restore = scene.checkpoints.restore(settings);
  await restore.ready();
  const oursRate = restore.prepared.contentBytes / since(fromNs);
  restore[Symbol.dispose]();
  using file = MemoryFile.create("plain", 64 * mebibyte);
  const block = crypto.getRandomValues(new Uint8Array(new ArrayBuffer(65_536)));
  const bytes = new Uint8Array(new ArrayBuffer(mebibyte)).map((_, at) => block[at % block.length]!);
  fromNs = systemClock.monotonicNs();
  for (let at = 0; at < 64; at += 1) file.write(at * mebibyte, bytes);
  return { ours: oursRate, plain: (64 * mebibyte) / since(fromNs) };
}

/** What a memory of this size costs the kernel and Cloud Hypervisor at any start, restored or not. */
async function bareBootMs(memoryMiB: number): Promise<number> {
  const shape = { ...shapeOf(memoryMiB), fillMiB: 1 };
  await using machine = await Machine.launch(scene.place("b"));
  await machine.hypervisor.call("vm.create", configOf(buildGuest(scene.path, shape), shape));
  const fromNs = systemClock.monotonicNs();
  await machine.hypervisor.call("vm.boot");
  return since(fromNs);
}

const sizes = [smallMiB, numbers.largeMiB!];
const prepared = new Map<number, { checkpoint: string; snapshot: string }>();
for (const size of sizes) {
  await using machine = await scene.boot(shapeOf(size));
  const { id } = await scene.take(machine, "memoryFile", `g${size}`);
  prepared.set(size, { checkpoint: id, snapshot: await snapshotOf(machine, `snapshot${size}`) });
}
const small = prepared.get(smallMiB)!;
const { checkpoint: largeCheckpoint, snapshot: largeSnapshot } = prepared.get(numbers.largeMiB!)!;
const failed: unknown[] = [];
const theirs = { runningMs: [] as number[], launchMs: [] as number[], largeMs: [] as number[] };
const boots = new Map<number, number[]>(sizes.map((size) => [size, []]));
const drains: { ours: number; plain: number }[] = [];

/** Our restores of one kind. */
const series = () => ({ small: [] as OurTimes[], resident: [] as OurTimes[], large: [] as OurTimes[] });
const [cold, standby] = [series(), series()];

async function keep(into: OurTimes[], run: Promise<OurTimes>): Promise<void> {
  const times = await run;
  into.push(times);
  await times.machine[Symbol.asyncDispose]();
}

const [smallName, largeName] = [`g${smallMiB}`, `g${numbers.largeMiB}`];
const contenders: readonly (() => Promise<void>)[] = [
  async () => {
    const { launchMs, runningMs, machine } = await runs.theirs(small.snapshot);
    theirs.runningMs.push(runningMs);
    theirs.launchMs.push(launchMs);
    await machine[Symbol.asyncDispose]();
  },
  async () => {
    const { runningMs, machine } = await runs.theirs(largeSnapshot);
    theirs.largeMs.push(runningMs);
    await machine[Symbol.asyncDispose]();
  },
  () => keep(cold.small, runs.cold(small.checkpoint, smallName, "lazy")),
  () => keep(standby.small, runs.standby(small.checkpoint, smallName, "lazy")),
  () => keep(cold.resident, runs.cold(small.checkpoint, smallName, "eager")),
  () => keep(standby.resident, runs.standby(small.checkpoint, smallName, "eager")),
  () => keep(cold.large, runs.cold(largeCheckpoint, largeName, "lazy")),
  () => keep(standby.large, runs.standby(largeCheckpoint, largeName, "lazy")),
];

/** What a process that stands by costs, MiB: its own memory, what we have more, and what the whole machine has less. */
async function standbyCost(checkpoint: string, guest: string): Promise<object> {
  const availableMiB = (): number =>
    Number(/MemAvailable:\s+(\d+)/.exec(readFileSync("/proc/meminfo", "utf8"))![1]) / 1_024;
  await systemClock.sleep(250);
  const [before, oursBefore] = [availableMiB(), process.memoryUsage.rss()];
  const { held, machine } = await runs.raise(checkpoint, guest, "lazy");
  await systemClock.sleep(250);
  const status = readFileSync(`/proc/${machine.hypervisor.pid}/status`, "utf8");
  const machineMiB = before - availableMiB();
  const supervisorMiB = (process.memoryUsage.rss() - oursBefore) / mebibyte;
  held[Symbol.dispose]();
  await machine[Symbol.asyncDispose]();
  const residentMiB = (name: string): number => Number(new RegExp(`${name}:\\s+(\\d+)`).exec(status)![1]) / 1_024;
  return { processMiB: residentMiB("VmRSS"), anonymousMiB: residentMiB("RssAnon"), supervisorMiB, machineMiB };
}

// What it touches is recorded by one restore that does not count; the same program touches the same pages in any memory.
const first = await runs.cold(small.checkpoint, smallName, "lazy", true);
await scene.checkpoints.touched(largeName, first.touched);
await first.machine[Symbol.asyncDispose]();
for (let round = 0; round < rounds; round += 1) {
  try {
    for (const contend of round % 2 === 0 ? contenders : contenders.toReversed()) await contend();
    for (const size of sizes) boots.get(size)!.push(await bareBootMs(size));
    drains.push(await drain(small.checkpoint));
  } catch (error) {
    failed.push(String(error));
  }
  console.error(`round ${round + 1} of ${rounds}`);
}
const ratioOf = (above: readonly number[], below: readonly number[]): object => ({
  value: median(above) / median(below),
  interval: medianInterval(
    above.map((value) => value / median(below)),
    seed,
  ),
});
const of = (times: readonly OurTimes[], what: "runningMs" | "answerMs" | "launchMs" | "demandedPages"): number[] =>
  times.map((each) => each[what]);
const bareBootLargerByMs = median(boots.get(numbers.largeMiB!)!) - median(boots.get(smallMiB)!);
const figures = ({ small: ours, resident, large }: typeof cold): object => ({
  runningMs: median(of(ours, "runningMs")),
  runningOverTheirs: { ...ratioOf(of(ours, "runningMs"), theirs.runningMs), target: 1.25 },
  answerMs: { lazy: median(of(ours, "answerMs")), resident: median(of(resident, "answerMs")) },
  demandedPages: median(of(ours, "demandedPages")),
  firstAnswerOverResident: { ...ratioOf(of(ours, "answerMs"), of(resident, "answerMs")), target: 1.1 },
  largeOverSmall: { ...ratioOf(of(large, "runningMs"), of(ours, "runningMs")), target: 1.25 },
  largeOverTheirs: ratioOf(of(large, "runningMs"), theirs.largeMs),
  largerByMs: median(of(large, "runningMs")) - median(of(ours, "runningMs")),
  // What is left of it without what the kernel takes for the slots of such a memory, at any start.
  largeLessSlotsOverSmall: (median(of(large, "runningMs")) - bareBootLargerByMs) / median(of(ours, "runningMs")),
  largeAnswerOverSmall: ratioOf(of(large, "answerMs"), of(ours, "answerMs")),
});
const results = {
  theirs: {
    runningMs: median(theirs.runningMs),
    launchMs: median(theirs.launchMs),
    largeOverSmall: ratioOf(theirs.largeMs, theirs.runningMs),
    drift: drift(theirs.runningMs),
  },
  standby: figures(standby),
  cold: { launchMs: median(of(cold.small, "launchMs")), ...figures(cold) },
  bareBootLargerByMs,
  standbyCost: {
    small: await standbyCost(small.checkpoint, smallName),
    large: await standbyCost(largeCheckpoint, largeName),
  },
  drainOverPlain: { value: median(drains.map(({ ours: mine, plain }) => mine / plain)), target: 0.2, aim: 0.5 },
  fillMs: first.fillMs,
};
await publish({ name: "restore", seed, rounds, results, failed_runs: failed }, json);
rmSync(scene.path, { recursive: true, force: true });
process.exit(failed.length === 0 ? 0 : 1);
