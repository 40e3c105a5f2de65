// SPDX-License-Identifier: Apache-2.0
/**
 * The world around a booted box: a real broker, who listens there, and who may command; and what the box is told to install.
 *
 * Gets the disk of a box and a configuration that names the broker, which is put on the boot partition; the box finds the
 * broker at the address of QEMU's own network.
 */
import { placeFiles } from "#image/run.ts";
import { Mosquitto } from "#tests/peers/mosquitto.ts";
import { Observer } from "#tests/peers/observer.ts";
import { Operator } from "#tests/peers/operator.ts";
import type { BootedBox } from "./bootedBox.ts";
import { holds } from "./holds.ts";

const hostSeenFromBox = "10.0.2.2";
export const device = "box-7";
export const claimCode = "H0LDFAST-77";
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

type Box = { readonly disk: string };

export class Surroundings implements AsyncDisposable {
  private constructor(
    readonly broker: Mosquitto,
    readonly observer: Observer,
    readonly operator: Operator,
  ) {}

  /** For a box that will boot with this configuration. */
  static async open({ disk }: Box, configurationFor: (port: number) => string): Promise<Surroundings> {
    const around = await Surroundings.at();
    await placeFiles(disk, { "holdfast.toml": configurationFor(around.broker.port), "claim.txt": `${claimCode}\n` });
    return around;
  }

  /** For a box that knows the port of its broker already. */
  static async at(port?: number): Promise<Surroundings> {
    const broker = await Mosquitto.start(port === undefined ? {} : { port });
    const observer = await Observer.open(broker.url, ["holdfast/#"]);
    return new Surroundings(broker, observer, new Operator(observer));
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

  /** The box gets the bundle in that place of its own, as /data/next.raucb. */
  async fetch(box: BootedBox, place: number, bytes: number): Promise<void> {
    await box.shell(`head -c ${bytes} /dev/disk/by-id/virtio-bundle${place} >/data/next.raucb && sync`, fetchMsMax);
  }

  /** The box is told to install what it fetched; gives what the verb said. */
  async install(box: BootedBox): Promise<string> {
    return await box.shell("holdfast update install /data/next.raucb", installMsMax);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.observer[Symbol.asyncDispose]();
    await this.broker[Symbol.asyncDispose]();
  }
}
