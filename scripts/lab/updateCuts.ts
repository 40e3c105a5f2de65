// SPDX-License-Identifier: Apache-2.0
/**
 * Power cuts while a booted image updates itself: from the order to install, through the other slot's writing and its
 * marking, to the start of the new version. After each cut the box is started from its firmware, and must come up.
 *
 * The box is booted once, gets its bundle, and is saved; each cut goes on from there on a disk of its own. The first run is
 * not cut and says how long all of it takes: cuts fall anywhere within.
 */
import { existsSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { seededRandom, systemClock } from "#clock.ts";
import type { ImageArchitecture } from "#image/packages.ts";
import { architectureOf, copyDisk, placeFiles } from "#image/run.ts";
import { holds } from "./appliance.ts";
import { BootedBox, bootMsMax } from "./bootedBox.ts";
import { LabError, run } from "./commands.ts";
import { PoweredDisk } from "./poweredDisk.ts";
import { resumed, savable, saveMachine } from "./savedMachine.ts";

const gib = 1_073_741_824;
const diskGiB = 3;
const readyMsMax = 900_000;
/** The bundle is a disk of the box's: its emulated network would take minutes. */
const bundleOnBox = "/dev/disk/by-id/virtio-bundle";
const bundleDisk = (file: string): readonly string[] => [
  ...["-drive", `file=${file},format=raw,if=none,id=bundle,readonly=on`],
  ...["-device", "virtio-blk-pci,drive=bundle,serial=bundle"],
];
const order = "holdfast update install /data/next.raucb; echo ORDERED";
/** One in so many is followed to the running service; the others to the system of their slot. */
const wholeEach = 10;
/** A slot has three tries. */
const startsMax = 3;

type Scene = {
  readonly architecture: ImageArchitecture;
  readonly bundle: string;
  readonly directory: string;
  readonly disk: string;
  readonly state: string;
  readonly wholeMs: number;
};

/** Boots the box once and saves it; a folder that holds such a scene is used again. */
export async function updateScene(
  image: string,
  bundle: string,
  directory: string,
  tell: (text: string) => void,
): Promise<Scene> {
  const [disk, state, facts] = ["saved.img", "saved.state", "saved.json"].map((name) => join(directory, name)) as [
    string,
    string,
    string,
  ];
  const architecture = architectureOf(image);
  if (!existsSync(facts)) {
    tell("booting the box once");
    await copyDisk(image, disk, diskGiB * gib);
    await placeFiles(disk, { shell: "yes\n" });
    await saveReady(architecture, disk, bundle, directory, state);
    tell("an update that is not cut");
    const wholeMs = await uncut({ architecture, bundle, directory, disk, state, wholeMs: 0 });
    writeFileSync(facts, JSON.stringify({ wholeMs }));
  }
  const { wholeMs } = JSON.parse(readFileSync(facts, "utf8")) as { wholeMs: number };
  tell(`from the order to the new version's system: ${wholeMs} ms`);
  return { architecture, bundle, directory, disk, state, wholeMs };
}

async function saveReady(
  architecture: ImageArchitecture,
  disk: string,
  bundle: string,
  directory: string,
  state: string,
): Promise<void> {
  await using powered = await PoweredDisk.open(disk, directory, 0);
  const socket = join(directory, "control");
  await using box = new BootedBox({
    ...{ architecture, disk, forwards: [], drive: powered.drive("disk") },
    more: [...bundleDisk(bundle), ...savable(socket)],
  });
  await box.shellReady();
  await box.shell(`head -c ${statSync(bundle).size} ${bundleOnBox} >/data/next.raucb`, readyMsMax);
  await holds("a supervisor", () => box.shell("holdfast update status --json | tail -n 1"), readyMsMax);
  await box.shell("sync; echo 3 >/proc/sys/vm/drop_caches");
  await saveMachine(socket, state);
}

/** The box goes on from where it was saved, on its own copy of the disk. */
async function goOn(
  { architecture, bundle, directory, disk, state }: Scene,
  seed: number,
): Promise<{ box: BootedBox; powered: PoweredDisk; copy: string }> {
  const copy = join(directory, "cut.img");
  await run(["cp", "--sparse=always", disk, copy]);
  const powered = await PoweredDisk.open(copy, directory, seed);
  const parts = { architecture, disk: copy, forwards: [], drive: powered.drive("disk") };
  const box = new BootedBox({ ...parts, more: [...bundleDisk(bundle), ...resumed(state)] });
  await box.shell("echo goes on");
  return { box, powered, copy };
}

async function uncut(scene: Scene): Promise<number> {
  const { box, powered } = await goOn(scene, 0);
  await using _disk = powered;
  await using _box = box;
  const beganNs = systemClock.monotonicNs();
  box.type(order);
  await box.says(/Holdfast: slot B on /, readyMsMax);
  return Math.round((systemClock.monotonicNs() - beganNs) / 1e6);
}

/** One cut, numbered so that any of a seed can be repeated alone. @throws LabError lab.machine */
export async function cutUpdate(scene: Scene, seed: number, index: number): Promise<Record<string, unknown>> {
  const random = seededRandom(seed * 100_003 + index);
  const afterMs = Math.floor(random() * scene.wholeMs);
  const { box, powered, copy } = await goOn(scene, Math.floor(random() * 2 ** 31));
  await using _disk = powered;
  let report: Awaited<ReturnType<PoweredDisk["cut"]>>;
  let reached: string;
  {
    await using _box = box;
    box.type(order);
    await systemClock.sleep(afterMs);
    report = await powered.cut();
    reached = stageOf(box.console);
  }
  await using again = new BootedBox({ architecture: scene.architecture, disk: copy, forwards: [] });
  const [, slot] = await again.says(/Holdfast: slot ([AB]) on /, bootMsMax * startsMax);
  const starts = [...again.console.matchAll(/BdsDxe: starting/g)].length;
  if (index % wholeEach !== 0) return { afterMs, reached, ...report, slot, starts };
  await again.shellReady();
  const degraded = await again.shell("cat /run/holdfast-degraded 2>/dev/null || echo none");
  if (degraded !== "none") throw new LabError("lab.machine", `the box is degraded: ${degraded}`);
  await again.shell("systemctl is-system-running --wait >/dev/null; systemctl is-active holdfast", bootMsMax);
  return { afterMs, reached, ...report, slot, starts, service: "active" };
}

/** How far the update had come, as its console tells. */
function stageOf(console: string): string {
  const since = console.slice(console.lastIndexOf("goes on"));
  if (/BdsDxe/.test(since)) return "firmware or later";
  return /\nORDERED/.test(since) ? "written, restart asked for" : "writing";
}
