// SPDX-License-Identifier: Apache-2.0
/**
 * What ends the present life of a booted box, as steps of the appliance's lab: a restart by one admin, a wipe by two of them,
 * a factory reset by whoever holds its card. Gets a scene with a box that is ready; gives what the box told of it.
 */
import { Operator } from "#tests/peers/operator.ts";
import type { ApplianceStep, Scene } from "./appliance.ts";
import type { BootedBox } from "./bootedBox.ts";
import type { Surroundings } from "./boxWorld.ts";
import { must, page } from "./holds.ts";
import { believe, statesOf, wish } from "./signedWish.ts";

const restartMsMax = 900_000;

/** The job has succeeded, and the next birth says whose wish it was. */
async function signedReboot(scene: Scene): Promise<Record<string, unknown>> {
  const { box, around } = await scene.goOn();
  await using _around = around;
  await using _box = box;
  await believe(box, around.operator.pair);
  await wish(around, "reboot", [around.operator.pair], () =>
    box.says(/holdfast-setup: the system is on/, restartMsMax),
  );
  await box.shellReady();
  const { reason } = await around.bornFor("operator");
  const boots = await box.shell("tail -c 200 /state/boots/boots.json");
  return { reason, job: statesOf(around, "reboot").at(-1), boots };
}

/** One admin's word is not enough; with another's on the same id it is done. */
async function signedWipe(scene: Scene): Promise<Record<string, unknown>> {
  const { box, around } = await scene.goOn();
  await using _around = around;
  await using _box = box;
  const admins = [around.operator.pair, new Operator(around.observer).pair];
  for (const pair of admins) await believe(box, pair);
  return await resets(box, around, (done) => wish(around, "wipe", admins, done));
}

async function factoryReset(scene: Scene): Promise<Record<string, unknown>> {
  const { box, around } = await scene.goOn();
  await using _around = around;
  await using _box = box;
  const reset = await resets(box, around, async (done) => {
    await box.shell(": >/esp/holdfast/factory-reset; sync");
    await box.shell("systemctl reboot --no-block");
    await done();
  });
  must(!box.console.includes("cannot touch"), "the time was not kept at the restart");
  return { ...reset, page: (await page(scene.pagePort, "/")).status };
}

/**
 * `begin` asks for it and is over with `done`: then the data are gone, who the box is stays, and it tells why it was started.
 * Its configuration goes with the data: the one that the lab can look at is put beside the wish.
 */
async function resets(
  box: BootedBox,
  around: Surroundings,
  begin: (done: () => Promise<unknown>) => Promise<void>,
): Promise<Record<string, unknown>> {
  const identity = "cat /state/machine-id; hostname; sha256sum </data/holdfast/page/certificate.pem";
  const before = await box.shell(identity);
  await box.shell("echo mine >/data/mine; cp /etc/holdfast/holdfast.toml /esp/holdfast/holdfast.toml; sync");
  await begin(() => box.says(/factory reset done/, restartMsMax));
  await box.shellReady();
  must((await box.shell("ls /data/mine 2>/dev/null || echo gone")) === "gone", "data outlived the reset");
  const { reason } = await around.bornFor("factoryReset");
  const after = await box.shell(identity);
  must(after === before, `the identity changed: ${before} to ${after}`);
  return { reason, identity: after.split("\n").join(" ") };
}

export const lifeSteps: readonly ApplianceStep[] = [
  { name: "signed reboot", run: signedReboot },
  { name: "signed wipe", run: signedWipe },
  { name: "factory reset", run: factoryReset },
];
