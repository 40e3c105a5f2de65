// SPDX-License-Identifier: Apache-2.0
/**
 * What a checkpoint costs: how long the guest stands still against Cloud Hypervisor's bare stop, and what it adds to the
 * store. Ratios of interleaved rounds in one run; needs /dev/kvm, Cloud Hypervisor v53.0 and gcc.
 *
 *     bun scripts/bench/checkpoint.ts [--json FILE] [--rounds 10] [--seed 1] [--largeMiB 4096]
 *
 * Targets: pause with 4 MiB dirty at most 1.5 bare stops, the same from 256 MiB to 4 GiB; a second checkpoint at most 0.7 of
 * the dirty bytes, of an idle guest at most 0.5 % of its memory. Bare stop: memory handed over and nothing read, declined.
 */
import { join } from "node:path";
import { systemClock } from "#clock.ts";
import { publish, readFlags } from "./benchReport.ts";
import { type GuestShape, lastPauseMs, type Machine, mebibyte, Scene } from "./checkpointScene.ts";
import { drift, median, medianInterval } from "./statistics.ts";

const { json, numbers } = readFlags(process.argv.slice(2), { rounds: 10, seed: 1, largeMiB: 4_096 });
const rounds = numbers.rounds!;
const seed = numbers.seed!;
const dirtyMiB = 4;
/** A guest that writes all the time settles once what is left fits into this. */
const downtimeMs = 50;
const sizesMiB = [256, numbers.largeMiB!];
const shapeOf = (memoryMiB: number, shared: boolean): GuestShape => ({
  ...{ memoryMiB, fillMiB: 64, dirtyMiB, workPages: 256, shared },
});

/** The stop alone: everything is taken as it comes, nothing is looked at. */
async function bareStop(machine: Machine): Promise<number> {
  const worker = new Worker(new URL("./bareStop.ts", import.meta.url).href);
  const { promise, resolve } = Promise.withResolvers<void>();
  const heard = Promise.withResolvers<void>();
  worker.onmessage = (event: MessageEvent<string>) => (event.data === "listening" ? heard.resolve() : resolve());
  worker.postMessage(join(machine.directory.path, "bare.sock"));
  await heard.promise;
  await machine.hypervisor.call("vm.send-migration", { destination_url: "unix:bare.sock", local: true });
  await promise;
  worker.terminate();
  while ((await machine.hypervisor.look()).kind !== "running") await systemClock.sleep(2);
  return await lastPauseMs(machine);
}

const failed: unknown[] = [];
const pauses = new Map<number, number[]>(sizesMiB.map((size) => [size, []]));
const bare: number[] = [];
const fileMethod: number[] = [];
const added: number[] = [];
const idle: number[] = [];

using scene = new Scene();
{
  await using shared = await scene.boot(shapeOf(256, true));
  const machines = new Map<number, Machine>();
  await shared.during(async () => {});
  for (const size of sizesMiB) {
    const machine = await scene.boot(shapeOf(size, false));
    await machine.during(async () => {});
    machines.set(size, machine);
  }
  await shared.during(() => scene.take(shared, "memoryFile", "shared"));
  for (const [size, machine] of machines) await machine.during(() => scene.take(machine, "stream", `s${size}`));
  for (let round = 0; round < rounds; round += 1) {
    try {
      bare.push(await shared.during(() => bareStop(shared)));
      for (const [size, machine] of machines) {
        await machine.during(async () => {
          await machine.ask("w", "W");
          const { addedBytes } = await scene.take(machine, "stream", `s${size}`, downtimeMs);
          pauses.get(size)!.push(await lastPauseMs(machine));
          added.push(addedBytes / (dirtyMiB * mebibyte));
          await machine.ask("d", "D");
        });
      }
      await shared.during(async () => {
        await shared.ask("d", "D");
        const { addedBytes } = await scene.take(shared, "memoryFile", "shared");
        fileMethod.push(await lastPauseMs(shared));
        added.push(addedBytes / (dirtyMiB * mebibyte));
        const rest = await scene.take(shared, "memoryFile", "shared");
        idle.push(rest.addedBytes / (256 * mebibyte));
        bare.push(await bareStop(shared));
      });
    } catch (error) {
      failed.push(String(error));
    }
    console.error(`round ${round + 1} of ${rounds}`);
  }
  for (const machine of machines.values()) await machine[Symbol.asyncDispose]();
}

const [small, large] = sizesMiB.map((size) => pauses.get(size)!);
const bareMs = median(bare);
const results = {
  bareStopMs: bareMs,
  bareDrift: drift(bare),
  pauseMs: { small: median(small!), large: median(large!) },
  pauseOverBare: {
    value: median(small!) / bareMs,
    interval: medianInterval(
      small!.map((ms) => ms / bareMs),
      seed,
    ),
    target: 1.5,
  },
  largeOverSmall: median(large!) / median(small!),
  memoryFilePauseOverBare: median(fileMethod) / bareMs,
  addedOverDirty: { value: median(added), worst: Math.max(...added), target: 0.7 },
  idleOverMemory: { value: median(idle), target: 0.005 },
};
await publish({ name: "checkpoint", seed, rounds, results, failed_runs: failed }, json);
process.exit(failed.length === 0 ? 0 : 1);
