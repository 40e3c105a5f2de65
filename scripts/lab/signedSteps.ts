// SPDX-License-Identifier: Apache-2.0
/**
 * Signed commands to a booted box that end its present life: a restart by one admin, a wipe by two of them.
 *
 * Gets a scene with a box that is ready; gives what the box told of it. A wish is repeated until the box agrees, because it
 * refuses an admin as long as its time is not kept; then no more, for each wish counts.
 */
import { systemClock } from "#clock.ts";
import type { KeyPair } from "#telemetry/keys.ts";
import { signWish } from "#telemetry/operator.ts";
import { Operator } from "#tests/peers/operator.ts";
import type { VerbName } from "#verbs.ts";
import type { ApplianceStep, Scene } from "./appliance.ts";
import type { BootedBox } from "./bootedBox.ts";
import { device, type Surroundings } from "./boxWorld.ts";
import { LabError } from "./labError.ts";
import { keepTime } from "./readyBox.ts";

const againMs = 15_000;
const restartMsMax = 900_000;
const validSeconds = 60;

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

/** One admin's word is not enough; with another's on the same id the data go, and who the box is stays. */
async function signedWipe(scene: Scene): Promise<Record<string, unknown>> {
  const { box, around } = await scene.goOn();
  await using _around = around;
  await using _box = box;
  const admins = [around.operator.pair, new Operator(around.observer).pair];
  for (const pair of admins) await believe(box, pair);
  const identity = "cat /state/machine-id; hostname; sha256sum </data/holdfast/page/certificate.pem";
  const before = await box.shell(identity);
  await box.shell("echo mine >/data/mine; cp /etc/holdfast/holdfast.toml /esp/holdfast/holdfast.toml; sync");
  await wish(around, "wipe", admins, () => box.says(/factory reset done/, restartMsMax));
  await box.shellReady();
  const left = await box.shell("ls /data/mine 2>/dev/null || echo gone");
  if (left !== "gone") throw new LabError("lab.machine", "data outlived the wipe");
  const { reason } = await around.bornFor("factoryReset");
  const after = await box.shell(identity);
  if (after !== before) throw new LabError("lab.machine", `the identity changed: ${before} to ${after}`);
  return { reason, identity: after.split("\n").join(" ") };
}

async function believe(box: BootedBox, pair: KeyPair): Promise<void> {
  await box.shell(`holdfast keys add ${pair.public.raw.toHex()} --as admin --label lab`);
  await box.shell(keepTime);
}

/** Each signs the same id, until the box agrees; `done` is seen on its console. */
async function wish(
  around: Surroundings,
  verb: VerbName,
  pairs: readonly KeyPair[],
  done: () => Promise<unknown>,
): Promise<void> {
  const over = new AbortController();
  const asking = askAgain(around, verb, pairs, over.signal);
  await done().finally(() => over.abort());
  await asking;
}

async function askAgain(
  { observer }: Surroundings,
  verb: VerbName,
  pairs: readonly KeyPair[],
  signal: AbortSignal,
): Promise<void> {
  const refused = new Set(["rejected", "expired"]);
  const isAgreed = (): boolean => statesOf({ observer }, verb).some((state) => !refused.has(String(state)));
  for (let counter = 1; !signal.aborted && !isAgreed(); counter += 1) {
    const id = `lab-${verb}-${counter}`;
    for (const pair of pairs) {
      const words = { device, verb, words: [], validSeconds, id };
      const { bytes } = signWish(words, pair, counter, Math.floor(systemClock.wallMs() / 1000));
      await observer.publish(`holdfast/1/${device}/cmd/${verb}`, bytes);
    }
    await systemClock.sleep(againMs, signal).catch(() => {});
  }
}

/** What the jobs of this verb were said to be, oldest first. */
const statesOf = ({ observer }: Pick<Surroundings, "observer">, verb: VerbName): unknown[] =>
  observer
    .decoded(`holdfast/1/${device}/job/`)
    .filter((job) => job.verb === verb)
    .map(({ s }) => s);

export const signedSteps: readonly ApplianceStep[] = [
  { name: "signed reboot", run: signedReboot },
  { name: "signed wipe", run: signedWipe },
];
