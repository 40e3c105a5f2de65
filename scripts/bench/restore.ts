// SPDX-License-Identifier: Apache-2.0
/**
 * How soon a guest is back: from the request until it runs, against Cloud Hypervisor's own on-demand restore of the same
 * memory; until its first answer, lazily with what it touched the last time, against all of its memory written first; small
 * memory against large; and how fast content arrives. Ratios of interleaved rounds in one run; needs /dev/kvm, Cloud
 * Hypervisor v53.0 and gcc.
 *
 *     bun scripts/bench/restore.ts [--json FILE] [--rounds 10] [--seed 1] [--largeMiB 8192]
 *
 * Targets: request to running at most 1.25; to the first answer at most 1.10; large at most 1.25 small; content at least 0.20
 * of plain pwrite of 1 MiB into a memory file, with one thread.
 */
import { mkdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { MemoryFile } from "#board/native/memoryFile.ts";
import { systemClock } from "#clock.ts";
import { pageBytes } from "#vm/offload/guestRam.ts";
import { publish, readFlags } from "./benchReport.ts";
import { buildGuest, configOf, type GuestShape, Machine, mebibyte, Scene, told } from "./checkpointScene.ts";
import { drift, median, medianInterval } from "./statistics.ts";

const { json, numbers } = readFlags(process.argv.slice(2), { rounds: 10, seed: 1, largeMiB: 8_192 });
const [rounds, seed] = [numbers.rounds!, numbers.seed!];
const smallMiB = 256;
const shapeOf = (memoryMiB: number): GuestShape => ({
  ...{ memoryMiB, fillMiB: 64, dirtyMiB: 4, workPages: 256, shared: true, tells },
});

type Times = {
  readonly launchMs: number;
  readonly runningMs: number;
  readonly answerMs: number;
  readonly machine: Machine;
};
/** For the Worker that a supervisor keeps warm. */
const settleMs = 250;
const since = (fromNs: number): number => (systemClock.monotonicNs() - fromNs) / 1e6;

using scene = new Scene();
const tells = join(scene.path, "serial");

/** By Holdfast: the process starts while the first pages are read. The clock starts with both, the Worker is warm. */
async function ours(
  checkpoint: string,
  guest: string,
  mode: "lazy" | "eager",
  whole = false,
): Promise<Times & { fillMs: number; demandedPages: number }> {
  scene.checkpoints.expectRestore(guest);
  rmSync(tells, { force: true });
  await systemClock.sleep(settleMs);
  const fromNs = systemClock.monotonicNs();
  const settings = { checkpoint, guest, mode, disks: {}, eagerBytesMax: 0, prefetchMsMax: 20 };
  const restore = scene.checkpoints.restore(settings);
  const machine = await Machine.launch(scene.place("r"));
  const launchedMs = since(fromNs);
  await restore.ready();
  const waitedMs = since(fromNs) - launchedMs;
  const body = mode === "lazy" ? { memory_mode: "Postcopy" as const } : {};
  const received = machine.hypervisor.call("vm.receive-migration", { receiver_url: "unix:in.sock", ...body });
  const { running, served } = restore.run(join(machine.directory.path, "in.sock"), machine.hypervisor.pid);
  await running;
  const runningMs = since(fromNs);
  await received;
  await machine.hypervisor.look();
  await told(tells);
  const answerMs = since(fromNs);
  // Only where it is asked for: a large memory takes its time, and the guest has answered.
  if (!whole) await machine.hypervisor.kill();
  const touched = await served.catch(() => []);
  const fillMs = since(fromNs) - runningMs;
  if (whole && touched.length > 0) await scene.checkpoints.touched(guest, touched);
  restore[Symbol.dispose]();
  const demandedPages = restore.progress.demandedBytes / pageBytes;
  const comparableMs = mode === "lazy" ? answerMs : answerMs - waitedMs;
  return { launchMs: launchedMs, runningMs, answerMs: comparableMs, machine, fillMs, demandedPages };
}

/** By Cloud Hypervisor itself, from a snapshot on the same disk. */
async function theirs(snapshot: string): Promise<Times> {
  rmSync(tells, { force: true });
  await systemClock.sleep(settleMs);
  const fromNs = systemClock.monotonicNs();
  const machine = await Machine.launch(scene.place("t"));
  const launchMs = since(fromNs);
  await machine.hypervisor.call("vm.restore", {
    source_url: `file://${snapshot}`,
    memory_restore_mode: "OnDemand",
    resume: true,
  });
  const runningMs = since(fromNs);
  await told(tells);
  return { launchMs, runningMs, answerMs: since(fromNs), machine };
}

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
  await systemClock.sleep(settleMs);
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
const prepared = new Map<number, { checkpoint: string; snapshot: string | null }>();
for (const size of sizes) {
  await using machine = await scene.boot(shapeOf(size));
  const { id } = await scene.take(machine, "memoryFile", `g${size}`);
  prepared.set(size, { checkpoint: id, snapshot: size === smallMiB ? await snapshotOf(machine, "snapshot") : null });
}
const small = prepared.get(smallMiB)!;
const failed: unknown[] = [];
const seen = { ours: [] as number[], theirs: [] as number[], lazy: [] as number[], eager: [] as number[] };
/** How long the process takes to start, whoever restores; pages that had to be asked for before the first answer. */
const [launches, demanded] = [[] as number[], [] as number[]];
const boots = new Map<number, number[]>(sizes.map((size) => [size, []]));
const [large, drains] = [[] as number[], [] as { ours: number; plain: number }[]];

// What it touches is recorded by one restore that does not count.
const first = await ours(small.checkpoint, `g${smallMiB}`, "lazy", true);
await first.machine[Symbol.asyncDispose]();
for (let round = 0; round < rounds; round += 1) {
  try {
    for (const who of round % 2 === 0 ? ["ours", "theirs"] : ["theirs", "ours"]) {
      if (who === "theirs") {
        const { launchMs, runningMs, machine } = await theirs(small.snapshot!);
        seen.theirs.push(runningMs);
        launches.push(launchMs);
        await machine[Symbol.asyncDispose]();
      } else {
        const { launchMs, runningMs, answerMs, demandedPages, machine } = await ours(
          small.checkpoint,
          `g${smallMiB}`,
          "lazy",
        );
        seen.ours.push(runningMs);
        seen.lazy.push(answerMs);
        launches.push(launchMs);
        demanded.push(demandedPages);
        await machine[Symbol.asyncDispose]();
      }
    }
    const eager = await ours(small.checkpoint, `g${smallMiB}`, "eager");
    seen.eager.push(eager.answerMs);
    await eager.machine[Symbol.asyncDispose]();
    const big = await ours(prepared.get(numbers.largeMiB!)!.checkpoint, `g${numbers.largeMiB}`, "lazy");
    large.push(big.runningMs);
    await big.machine[Symbol.asyncDispose]();
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
const results = {
  runningMs: { ours: median(seen.ours), theirs: median(seen.theirs), theirsDrift: drift(seen.theirs) },
  runningOverTheirs: { ...ratioOf(seen.ours, seen.theirs), target: 1.25 },
  launchMs: median(launches),
  answerMs: { lazy: median(seen.lazy), resident: median(seen.eager), demandedPages: median(demanded) },
  firstAnswerOverResident: { ...ratioOf(seen.lazy, seen.eager), target: 1.1 },
  largeOverSmall: { ...ratioOf(large, seen.ours), target: 1.25 },
  largerByMs: {
    restore: median(large) - median(seen.ours),
    bareBoot: median(boots.get(numbers.largeMiB!)!) - median(boots.get(smallMiB)!),
  },
  drainOverPlain: { value: median(drains.map(({ ours: mine, plain }) => mine / plain)), target: 0.2, aim: 0.5 },
  fillMs: first.fillMs,
};
await publish({ name: "restore", seed, rounds, results, failed_runs: failed }, json);
rmSync(scene.path, { recursive: true, force: true });
process.exit(failed.length === 0 ? 0 : 1);
