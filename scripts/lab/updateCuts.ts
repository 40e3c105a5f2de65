// SPDX-License-Identifier: Apache-2.0
/**
 * Power cuts while a booted image updates itself: from the order to install, through the other slot's writing and its marking
 * and the start of the new version, to the end of its trial. After each cut the box starts from its firmware, and must come up.
 *
 * The update runs once, whole, on a disk that keeps a record; each cut is a moment of it, on a disk of its own. Cuts fall in
 * turn at any time (each stage as likely), after any write, and after a write to the boot loader's partition or the state.
 */
import { existsSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { seededRandom, systemClock } from "#clock.ts";
import { mib, type PartitionName, partitionOf } from "#image/layout.ts";
import { architectureOf } from "#image/run.ts";
import { BootedBox, bootMsMax } from "./bootedBox.ts";
import { Surroundings } from "./boxWorld.ts";
import { anyTime, anyWrite, cutAfter, type Moment, RecordingDisk, readTold, type Told } from "./diskRecord.ts";
import { holds } from "./holds.ts";
import { LabError } from "./labError.ts";
import { serveNbd } from "./nbdServer.ts";
import { nbdDrive } from "./poweredDisk.ts";
import { ReadyBox } from "./readyBox.ts";
import { environmentOn } from "./slotMarks.ts";

const stepMsMax = 1_800_000;
const trialAskMs = 15_000;
/** One in so many is followed to the running service; the others to the system of their slot. */
const wholeEach = 10;
/** A slot has three tries. */
const startsMax = 3;

/** Times since the record began. */
type Stage = { readonly name: string; readonly fromNs: number; readonly toNs: number };
const marks = ["esp", "state"] as const satisfies readonly PartitionName[];

export class UpdateCuts {
  readonly #told: readonly Told[];

  private constructor(
    private readonly image: string,
    private readonly directory: string,
    private readonly seed: number,
    private readonly stages: readonly Stage[],
    private readonly ready: ReadyBox,
  ) {
    this.#told = readTold(join(directory, "update"));
  }

  /** Boots the box and records its update once; a folder that holds the record is used again. */
  static async open(
    image: string,
    bundle: string,
    directory: string,
    seed: number,
    tell: (text: string) => void,
  ): Promise<UpdateCuts> {
    const ready = await ReadyBox.open(image, directory, tell);
    const path = join(directory, "update.json");
    if (!existsSync(path)) {
      tell("an update that is not cut");
      writeFileSync(path, JSON.stringify(await recordUpdate(ready, bundle, directory)));
    }
    const stages = JSON.parse(readFileSync(path, "utf8")) as Stage[];
    const seconds = stages.map(({ name, fromNs, toNs }) => `${name} ${Math.round((toNs - fromNs) / 1e9)} s`);
    tell(`the update: ${seconds.join(", ")}`);
    return new UpdateCuts(image, directory, seed, stages, ready);
  }

  /** One cut, numbered so that any of a seed can be repeated alone. @throws LabError lab.machine */
  async cut(index: number): Promise<Record<string, unknown>> {
    const random = seededRandom(this.seed * 100_003 + index);
    const { by, moment } = this.#choose(index, random);
    const disk = join(this.directory, "cut.img");
    await this.ready.copyDisk(disk);
    const report = cutAfter(join(this.directory, "update"), moment.count, disk, Math.floor(random() * 2 ** 31));
    const stage = this.stages.findLast(({ fromNs }) => fromNs <= moment.atNs)!;
    const afterMs = Math.round((moment.atNs - this.stages[0]!.fromNs) / 1e6);
    const environment = await environmentOn(disk);
    const facts = { by, stage: stage.name, afterMs, ...report, environment };
    return { ...facts, ...(await this.#bootsAgain(disk, index % wholeEach === 0)) };
  }

  #choose(index: number, random: () => number): { readonly by: string; readonly moment: Moment } {
    const whole = { fromNs: this.stages[0]!.fromNs, toNs: this.stages.at(-1)!.toNs };
    const isMark = ({ at }: Told): boolean =>
      marks.map(partitionOf).some(({ startMiB, sizeMiB }) => at >= startMiB * mib && at < (startMiB + sizeMiB) * mib);
    const stage = this.stages[Math.floor(random() * this.stages.length)]!;
    if (index % 3 === 0) return { by: "time", moment: anyTime(this.#told, stage, random) };
    if (index % 3 === 1) return { by: "write", moment: anyWrite(this.#told, whole, random) };
    return { by: "mark", moment: anyWrite(this.#told, whole, random, isMark) };
  }

  async #bootsAgain(disk: string, isWhole: boolean): Promise<Record<string, unknown>> {
    await using again = new BootedBox({ architecture: architectureOf(this.image), disk, forwards: [] });
    const beganNs = systemClock.monotonicNs();
    const [, slot] = await again.says(/Holdfast: slot ([AB]) on /, bootMsMax * startsMax);
    const starts = [...again.console.matchAll(/BdsDxe: starting/g)].length;
    if (starts > startsMax) throw new LabError("lab.machine", `slot ${slot} came only with start ${starts}`);
    const facts = { slot, starts, seconds: Math.round((systemClock.monotonicNs() - beganNs) / 1e9) };
    if (!isWhole) return facts;
    await again.shellReady();
    const degraded = await again.shell("cat /run/holdfast-degraded 2>/dev/null || echo none");
    if (degraded !== "none") throw new LabError("lab.machine", `the box is degraded: ${degraded}`);
    await again.shell("systemctl is-system-running --wait >/dev/null; systemctl is-active holdfast", bootMsMax);
    return { ...facts, service: "active" };
  }
}

async function recordUpdate(ready: ReadyBox, bundle: string, directory: string): Promise<Stage[]> {
  const disk = join(directory, "update.img");
  await ready.copyDisk(disk);
  await using around = await Surroundings.at(ready.brokerPort);
  const socket = join(directory, "update.socket");
  rmSync(socket, { force: true });
  using recording = new RecordingDisk(disk, join(directory, "update"));
  using _served = serveNbd(socket, recording);
  await using box = await ready.goOn({ disk, bundles: [bundle], drive: nbdDrive(socket, "disk") });
  await around.fetch(box, 0, statSync(bundle).size);
  const stages: Stage[] = [];
  let fromNs = recording.nowNs();
  const ends = (name: string): void => {
    const toNs = recording.nowNs();
    stages.push({ name, fromNs, toNs });
    fromNs = toNs;
  };
  box.type("holdfast update install /data/next.raucb; echo ORDER''ED");
  // It may restart before the shell is told that it will.
  await box.says(/\nORDERED|reboot: Restarting/, stepMsMax);
  ends("writing");
  await box.says(/BdsDxe: starting/, stepMsMax);
  ends("restart");
  await box.says(/Holdfast: slot B on /, stepMsMax);
  ends("boot loader");
  await box.says(/holdfast-setup: the system is on/, stepMsMax);
  await box.shellReady();
  ends("system");
  const isGood = async (): Promise<true | null> =>
    (await box.shell("cat /state/update/trial 2>/dev/null || echo good")) === "good" ? true : null;
  await holds("the end of the trial", isGood, stepMsMax, trialAskMs);
  ends("trial");
  rmSync(disk);
  return stages;
}
