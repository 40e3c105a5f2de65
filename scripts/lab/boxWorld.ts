// SPDX-License-Identifier: Apache-2.0
/**
 * The world around a booted box: a real broker, who listens there, who may command, and its update bundles.
 *
 * Gets the scene of a step and a configuration that names the broker, which is put on the boot partition; the box finds all
 * of it at the address of QEMU's own network. Bundles: HOLDFAST_LAB_BUNDLES, or the image's folder.
 */
import { statSync } from "node:fs";
import { dirname, join } from "node:path";
import type { ImageArchitecture } from "#image/packages.ts";
import { architectureOf, placeFiles } from "#image/run.ts";
import { Mosquitto } from "#tests/peers/mosquitto.ts";
import { Observer } from "#tests/peers/observer.ts";
import { Operator } from "#tests/peers/operator.ts";
import { claimCode, holds, type Scene } from "./appliance.ts";
import type { BootedBox } from "./bootedBox.ts";

const hostSeenFromBox = "10.0.2.2";
export const device = "box-7";
const fetchMsMax = 900_000;
const installMsMax = 1_200_000;
const birthMsMax = 600_000;

/** The section of a configuration that sends the box to the broker on this port. */
export const telemetryTo = (port: number): string => `[telemetry]
broker = "mqtt://${hostSeenFromBox}:${port}"
plaintext = true
device = "${device}"
connectSpreadMs = 0
`;

/** QEMU takes 20 characters of one. */
const serialOf = (name: string): string => name.replaceAll(/holdfast-|-arm64|-x86_64|\.raucb/g, "").slice(0, 20);

export class Surroundings implements AsyncDisposable {
  private constructor(
    readonly broker: Mosquitto,
    readonly observer: Observer,
    readonly operator: Operator,
    readonly bundles: string,
    private readonly architecture: ImageArchitecture,
  ) {}

  static async open(scene: Scene, configurationFor: (port: number) => string): Promise<Surroundings> {
    const broker = await Mosquitto.start();
    const observer = await Observer.open(broker.url, ["holdfast/#"]);
    const bundles = process.env.HOLDFAST_LAB_BUNDLES ?? dirname(scene.image);
    await placeFiles(scene.disk, { "holdfast.toml": configurationFor(broker.port), "claim.txt": `${claimCode}\n` });
    return new Surroundings(broker, observer, new Operator(observer), bundles, architectureOf(scene.image));
  }

  /** As image/build names it. */
  bundle(version: string): string {
    return `holdfast-${version}-${this.architecture}.raucb`;
  }

  /** The newest one; empty where the box has not been born yet. */
  get birth(): Record<string, unknown> {
    return this.observer.decoded(`holdfast/1/${device}/birth`).at(-1) ?? {};
  }

  /** The newest birth, once it gives this reason for the boot. @throws LabError lab.machine */
  async bornFor(reason: string): Promise<Record<string, unknown>> {
    return await holds(
      `a birth for ${reason}`,
      async () => (this.birth.reason === reason ? this.birth : null),
      birthMsMax,
    );
  }

  /** Words for QEMU that give the box these bundles as disks: its emulated network would take minutes for each. */
  attached(...names: readonly string[]): readonly string[] {
    return names.flatMap((name, index) => [
      ...["-drive", `file=${join(this.bundles, name)},format=raw,if=none,id=b${index},readonly=on`],
      ...["-device", `virtio-blk-pci,drive=b${index},serial=${serialOf(name)}`],
    ]);
  }

  /** The box gets the bundle of that name, as /data/next.raucb. */
  async fetch(box: BootedBox, name: string): Promise<void> {
    const bytes = statSync(join(this.bundles, name)).size;
    const from = `/dev/disk/by-id/virtio-${serialOf(name)}`;
    await box.shell(`head -c ${bytes} ${from} >/data/next.raucb && sync && ls -l /data/next.raucb`, fetchMsMax);
  }

  /** The box fetches it and is told to install it; gives what the verb said. */
  async install(box: BootedBox, name: string): Promise<string> {
    await this.fetch(box, name);
    return await box.shell("holdfast update install /data/next.raucb", installMsMax);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.observer[Symbol.asyncDispose]();
    await this.broker[Symbol.asyncDispose]();
  }
}
