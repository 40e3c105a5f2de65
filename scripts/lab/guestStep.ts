// SPDX-License-Identifier: Apache-2.0
/**
 * The sample guest of a flashed box, as a step of the appliance's lab: the box's own system again under Cloud Hypervisor,
 * with a redis that takes the development faults, a checkpoint, and the way back from it.
 *
 * Wants an image with Cloud Hypervisor in it. Everything is nested software emulation: minutes, not seconds. The guest has
 * no network; its redis is spoken to through a shell that the lab has systemd open on the guest's console.
 */
import { join } from "node:path";
import { architectureOf, placeFiles } from "#image/run.ts";
import { type ApplianceStep, configuration, type Scene } from "./appliance.ts";
import type { BootedBox } from "./bootedBox.ts";
import { Surroundings, telemetryTo } from "./boxWorld.ts";
import { bundled } from "./bundled.ts";
import { holds, must } from "./holds.ts";

const guestMsMax = 1_000_000;
const answerMsMax = 600_000;
/** Asking costs an emulated box seconds of its processor. */
const lookEachMs = 10_000;
/** The box's own memory and that of its guest. */
const memoryMiB = 2_560;
const faults = ["DEBUG SEGFAULT", "DEBUG ASSERT", "DEBUG PANIC"];
const shellFile = "guest-shell.js";

const terminals = { arm64: "ttyAMA0", x86_64: "ttyS0" } as const;

const sampleOn = (terminal: string): string => `
[[guest]]
name = "sample"
kernel = "/boot/vmlinuz"
initramfs = "/boot/initrd"
cmdline = "holdfast.guest systemd.unit=holdfast-guest.target systemd.gpt_auto=no console=${terminal} panic=-1 systemd.debug_shell=${terminal}"
memory = "512M"
disks = [{ path = "/run/holdfast-system", readonly = true }]
bootMs = ${guestMsMax}
restart = { attemptsMax = 10 }
checkpoint = { automatic = false, healthyMs = 20000, pauseMsMax = 60000 }
program = [{ name = "redis", process = "redis-server" }]
`;

/** The shell on the guest's console. */
class GuestShell {
  constructor(private readonly box: BootedBox) {}

  async run(command: string): Promise<string> {
    return await this.box.shell(`/usr/lib/holdfast/bin/bun /esp/holdfast/${shellFile} sample '${command}'`, guestMsMax);
  }
}

/** What the service has said since it was started, once it fits. */
async function said(box: BootedBox, pattern: RegExp, withinMs = guestMsMax, times = 1): Promise<string> {
  return await holds(
    `the service's ${pattern}`,
    async () => {
      const text = await box.shell("journalctl -u holdfast -b -o cat --no-pager | tail -n 60");
      const found = text.split("\n").filter((line) => pattern.test(line));
      return found.length >= times ? found.at(-1)! : null;
    },
    withinMs,
    lookEachMs,
  );
}

async function guestInBox(scene: Scene): Promise<Record<string, unknown>> {
  await using _around = await Surroundings.open(
    scene,
    (port) => `${configuration}${sampleOn(terminals[architectureOf(scene.image)])}\n${telemetryTo(port)}`,
  );
  await placeFiles(scene.disk, { [shellFile]: await bundled(join(import.meta.dir, "guestShell.ts")) });
  await using box = scene.boot({ memoryMiB, hasGuests: true });
  await box.shellReady();
  const kvm = await box.shell("ls -l /dev/kvm; cloud-hypervisor --version");
  const up = await said(box, /guest sample: up/);
  const guarded = await said(box, /guarding redis/);
  const shell = new GuestShell(box);
  const identity = `redis-cli info server | grep -E "^(run_id|process_id)"`;
  const before = await shell.run(identity);
  await shell.run("redis-cli set when before");
  for (const fault of faults) await shell.run(`timeout 20 redis-cli ${fault}`);
  const verdicts = await holds(
    "an outcome for each fault",
    async () => {
      const lines = (await box.shell("holdfast faults | tail -n +2")).split("\n").filter((line) => line !== "");
      return lines.length >= faults.length && !lines.some((line) => /open$/.test(line)) ? lines : null;
    },
    answerMsMax,
    lookEachMs,
  );
  must(!verdicts.some((line) => /failed$/.test(line)), `verdicts: ${verdicts.join("; ")}`);
  const after = await shell.run(identity);
  must(after === before, `the redis of the guest: ${before} became ${after}`);
  return { kvm, up, guarded, redis: after, verdicts, ...(await thereAndBack(box, shell, identity)) };
}

/** What was written before a checkpoint is there after the guest was lost, what came later is not. */
async function thereAndBack(box: BootedBox, shell: GuestShell, identity: string): Promise<Record<string, unknown>> {
  const before = await shell.run(identity);
  const taken = await box.shell("holdfast checkpoint create sample", guestMsMax);
  await holds(
    "a good checkpoint",
    async () => ((await box.shell("holdfast checkpoint list")).includes("good") ? true : null),
    answerMsMax,
    lookEachMs,
  );
  await shell.run("redis-cli set when after");
  await box.shell("pkill -KILL -f '^[^ ]*cloud-hypervisor'");
  const back = await said(box, /guest sample: back from checkpoint/);
  const when = await shell.run("redis-cli get when");
  const whole = await said(box, /guest sample: all of its memory is there/);
  must(when === "before", `redis says ${when}`);
  must((await shell.run(identity)) === before, "redis was started anew: it was a boot");
  const guarded = await said(box, /guarding redis/, guestMsMax, 2);
  return { taken, back, when, whole, guardedAgain: guarded };
}

export const guestSteps: readonly ApplianceStep[] = [
  { name: "guest in the box, faults, checkpoint, restore", run: guestInBox },
];
