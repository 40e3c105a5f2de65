// SPDX-License-Identifier: Apache-2.0
/**
 * Updates of a booted image, as steps of the appliance's lab: there and back, a version that fails its gate, a slot and a
 * kernel that never come up. Gets bundles beside the image; the box is told on its console, and heard over a real broker.
 *
 * Bundles: `BUNDLES/holdfast-2.0-arm64.raucb` and `…-3.0-…`, built with `image/build --version` and the same keys as the image
 * (HOLDFAST_LAB_BUNDLES; left out: the image's folder; HOLDFAST_LAB_KEYS: the folder of key.pem and cert.pem).
 */
import { existsSync, statSync } from "node:fs";
import { dirname, join } from "node:path";
import { systemClock } from "#clock.ts";
import { makeBundle } from "#image/bundle.ts";
import { run } from "#image/commands.ts";
import { architectureOf } from "#image/run.ts";
import type { ApplianceStep, Scene } from "./appliance.ts";
import type { BootedBox } from "./bootedBox.ts";
import { device, type Surroundings } from "./boxWorld.ts";
import { holds, must } from "./holds.ts";

const readyMsMax = 600_000;
/** Boot, gate of ten minutes, and the way back. */
const gateMsMax = 1_800_000;
/** Asking costs an emulated box seconds of its processor. */
const statusEachMs = 15_000;
const jsonStatus = "holdfast update status --json 2>/dev/null | tail -n 1";

type Status = {
  readonly slot: string;
  readonly version: string;
  readonly phase: string;
  readonly says: string;
  readonly lastRollback: { readonly version: string; readonly reason: string } | null;
  readonly refused: readonly { readonly version: string }[];
};

/** As image/build names it. */
export const bundleOf = (image: string, version: string): string =>
  join(process.env.HOLDFAST_LAB_BUNDLES ?? dirname(image), `holdfast-${version}-${architectureOf(image)}.raucb`);

const statusOf = async (box: BootedBox): Promise<Status> => JSON.parse(await box.shell(jsonStatus)) as Status;

/** What the box says of its update, as soon as its supervisor answers. */
const statusSoon = (box: BootedBox): Promise<Status> =>
  holds("a supervisor", () => statusOf(box), readyMsMax, statusEachMs);

/** The box, run from that slot, has told its broker. Asking the box itself would cost it seconds of its processor. */
async function bornIn(around: Surroundings, slot: string): Promise<void> {
  await holds(`a birth in slot ${slot}`, async () => (around.birth.slot === slot ? true : null), readyMsMax);
}

/** The file is there for as long as the trial lasts. */
async function trialEnds(box: BootedBox): Promise<void> {
  const ended = async (): Promise<true | null> =>
    (await box.shell("cat /state/update/trial 2>/dev/null || echo over")) === "over" ? true : null;
  await holds("the end of the trial", ended, gateMsMax, statusEachMs);
}

async function restarted(box: BootedBox, withinMs = readyMsMax): Promise<void> {
  await box.says(/holdfast-setup: the system is on/, withinMs);
  await box.shellReady();
}

const running = (status: Status): string => `${status.slot} ${status.version} ${status.phase}`;
const environmentOf = (box: BootedBox): Promise<string> =>
  box.shell("grub-editenv /esp/grub/grubenv list | tr '\\n' ' '");

/** From the slot that runs to the other one, and proven there. */
async function updateTo(
  around: Surroundings,
  box: BootedBox,
  version: string,
  [place, bundle]: readonly [number, string],
  note: Scene["note"],
): Promise<Record<string, unknown>> {
  const from = await statusSoon(box);
  await around.fetch(box, place, statSync(bundle).size);
  const beganNs = systemClock.monotonicNs();
  const said = await around.install(box);
  note(`${version} is written`);
  const writtenSeconds = Math.round((systemClock.monotonicNs() - beganNs) / 1e9);
  await restarted(box);
  note(`${version} is started`);
  await bornIn(around, from.slot === "A" ? "B" : "A");
  const trial = await statusSoon(box);
  note(`${running(trial)}: ${trial.says}`);
  await trialEnds(box);
  const end = await statusSoon(box);
  const seconds = Math.round((systemClock.monotonicNs() - beganNs) / 1e9);
  must(end.phase === "good" && end.version === version, `${running(end)}: ${end.says}`);
  must(end.slot !== from.slot, "it runs in the same slot");
  const isBorn = (): boolean => around.birth.sw === version && around.birth.slot === end.slot;
  await holds("the birth", async () => (isBorn() ? true : null), readyMsMax);
  const environment = await environmentOf(box);
  must(environment.includes(`ORDER=${end.slot}`) && environment.includes(`${end.slot}_TRY=0`), environment);
  const ways = [from, trial, end].map(running).join(" > ");
  return { ways, writtenSeconds, seconds, said: said.slice(-120), environment };
}

async function thereAndBack(scene: Scene): Promise<Record<string, unknown>> {
  const [second, third] = [bundleOf(scene.image, "2.0"), bundleOf(scene.image, "3.0")];
  const { box, around } = await scene.goOn([second, third]);
  await using _around = around;
  await using _box = box;
  const there = await updateTo(around, box, "2.0", [0, second], scene.note);
  const back = await updateTo(around, box, "3.0", [1, third], scene.note);
  return { there, back };
}

/** It comes up, and a server that ran before does not: sent back within ten minutes, with the reason everywhere. */
async function failsItsGate(scene: Scene): Promise<Record<string, unknown>> {
  const bundle = bundleOf(scene.image, "2.0");
  const { box, around } = await scene.goOn([bundle]);
  await using _around = around;
  await using _box = box;
  await box.shell("echo B >/data/break; sync");
  await around.fetch(box, 0, statSync(bundle).size);
  await around.install(box);
  scene.note("written");
  await restarted(box);
  scene.note("on trial");
  await restarted(box, gateMsMax);
  scene.note("sent back");
  return await cameBack(around, box, "2.0", /trial: workload cache/);
}

/** What the slot that runs again says of the one that failed: on the command line, over MQTT, and to whoever tries again. */
async function cameBack(
  around: Surroundings,
  box: BootedBox,
  version: string,
  reason: RegExp,
): Promise<Record<string, unknown>> {
  const birth = await holds("the rollback in the birth", async () => around.birth.rollback ?? null, readyMsMax);
  const alarm = await holds(
    "the alarm",
    async () => around.observer.decoded(`holdfast/1/${device}/a/rollback`).at(-1)?.cause ?? null,
    readyMsMax,
  );
  const status = await statusSoon(box);
  must(status.slot === "A", `slot ${status.slot} runs`);
  const told = `trial: ${status.lastRollback?.reason} ${status.says}`;
  must(status.lastRollback?.version === version && reason.test(told), told);
  const again = await around.install(box).catch((error: unknown) => String(error));
  must(again.includes("failed here"), `it was not refused: ${again}`);
  return {
    reason: status.lastRollback?.reason,
    birth,
    alarm,
    again: again.slice(-160),
    environment: await environmentOf(box),
  };
}

/** A bundle whose boot file system is not what it should be. */
const neverComesUp =
  (version: string, spoil: (bootImage: string) => Promise<void>): ApplianceStep["run"] =>
  async (scene) => {
    const bundle = `${scene.disk}.spoilt`;
    await makeSpoilt(scene, version, bundle, spoil);
    const { box, around } = await scene.goOn([bundle]);
    await using _around = around;
    await using _box = box;
    await around.fetch(box, 0, statSync(bundle).size);
    await around.install(box);
    scene.note("written");
    await restarted(box, gateMsMax);
    scene.note("back");
    return await cameBack(around, box, version, /started 3 times/);
  };

async function makeSpoilt(
  scene: Scene,
  version: string,
  out: string,
  spoil: (bootImage: string) => Promise<void>,
): Promise<void> {
  const { disk, image } = scene;
  const keys = process.env.HOLDFAST_LAB_KEYS ?? "";
  must(
    existsSync(join(keys, "key.pem")),
    "HOLDFAST_LAB_KEYS: the folder of key.pem and cert.pem that signed the image",
  );
  const [rootImage, bootImage] = [`${disk}.root`, `${disk}.boot`];
  await run(["unsquashfs", "-f", "-d", `${disk}.parts`, bundleOf(scene.image, "2.0")]);
  await run(["mv", join(`${disk}.parts`, "root.img"), rootImage]);
  await run(["mv", join(`${disk}.parts`, "boot.img"), bootImage]);
  await spoil(bootImage);
  const signed = { certificate: join(keys, "cert.pem"), key: join(keys, "key.pem") };
  await makeBundle({
    rootImage,
    bootImage,
    version,
    compatible: `holdfast-${architectureOf(image)}`,
    ...signed,
    out,
  });
}

/** The kernel finds an initial disk that is none, and panics. */
async function spoilInitrd(bootImage: string): Promise<void> {
  await Bun.write(`${bootImage}.initrd`, Buffer.alloc(1_048_576, 0x5a));
  await run(["debugfs", "-w", "-R", "rm initrd", bootImage]);
  await run(["debugfs", "-w", "-R", `write ${bootImage}.initrd initrd`, bootImage]);
}

async function spoilAll(bootImage: string): Promise<void> {
  await Bun.write(bootImage, Buffer.alloc(16 * 1_048_576));
}

export const updateSteps: readonly ApplianceStep[] = [
  { name: "update there and back", run: thereAndBack },
  { name: "update that breaks a server", run: failsItsGate },
  { name: "update with an empty slot", run: neverComesUp("2.1", spoilAll) },
  { name: "update with a broken kernel", run: neverComesUp("2.2", spoilInitrd) },
];
