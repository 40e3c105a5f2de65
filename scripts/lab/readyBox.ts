// SPDX-License-Identifier: Apache-2.0
/**
 * A box that has booted, is ready and has been heard by its broker, saved as it stands: steps and cuts go on from there in
 * seconds, each on a disk of its own. Gets an image and a folder; a folder that holds such a box is used again.
 *
 * It has two places for bundles, which are disks of one size (its emulated network would take minutes for each), and one
 * server that fails to start in the slot that `/data/break` names: an app that a new version breaks.
 */
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { systemClock } from "#clock.ts";
import { run } from "#image/commands.ts";
import { architectureOf, copyDisk, placeFiles } from "#image/run.ts";
import { BootedBox } from "./bootedBox.ts";
import { Surroundings, telemetryTo } from "./boxWorld.ts";
import { bundled } from "./bundled.ts";
import { freePort, holds, pageReady } from "./holds.ts";
import { resumed, savable, saveMachine } from "./savedMachine.ts";

const gib = 1_073_741_824;
const diskGiB = 4;
const bundlePlaces = 2;
const bundleMiB = 512;
const readyMsMax = 900_000;
/** Asking costs an emulated box seconds of its processor. */
const askEachMs = 5_000;

const timeFile = "time-kept.js";
/** A command for its shell: no time service reaches it, and a box that does not know the time closes what admins may do. */
export const keepTime = `/usr/lib/holdfast/bin/bun /esp/holdfast/${timeFile}`;

const configurationFor = (port: number): string => `[status]
listen = "0.0.0.0:8443"
openHealth = true

${telemetryTo(port)}
[[program]]
name = "cache"
command = ["/bin/sh", "-c", "grep -q holdfast.slot=$(cat /data/break 2>/dev/null || echo none) /proc/cmdline && exit 1; exec redis-server --port 7000 --dir /tmp"]
probes = ["tcp:7000"]
restart = { attemptsMax = 1000, backoffMsMax = 5000 }
`;

type Start = {
  readonly disk: string;
  readonly forwards?: readonly (readonly [number, number])[];
  /** Files of the first and of the second place. */
  readonly bundles?: readonly string[];
  /** In place of the file, as QEMU names it. */
  readonly drive?: string;
};

export class ReadyBox {
  private constructor(
    private readonly image: string,
    private readonly directory: string,
  ) {}

  static async open(image: string, directory: string, tell: (text: string) => void): Promise<ReadyBox> {
    const ready = new ReadyBox(image, directory);
    if (!existsSync(ready.#path("ready.json"))) {
      tell("booting the box once");
      await ready.#save();
    }
    return ready;
  }

  /** The port at which it looks for its broker. */
  get brokerPort(): number {
    return (JSON.parse(readFileSync(this.#path("ready.json"), "utf8")) as { brokerPort: number }).brokerPort;
  }

  /** A copy of its disk as it was when it was saved. */
  async copyDisk(disk: string): Promise<void> {
    await run(["cp", "--sparse=always", this.#path("ready.img"), disk]);
  }

  /** Goes on, on a copy of its disk. */
  async goOn(start: Start): Promise<BootedBox> {
    const box = this.#start(
      start,
      await this.#places(start.disk, start.bundles ?? []),
      resumed(this.#path("ready.state")),
    );
    await box.shellAgain();
    await box.shell(`date -s @${Math.round(systemClock.wallMs() / 1_000)}`);
    return box;
  }

  async #save(): Promise<void> {
    const disk = this.#path("ready.img");
    await copyDisk(this.image, disk, diskGiB * gib);
    await placeFiles(disk, { shell: "yes\n", [timeFile]: await bundled(join(import.meta.dir, "timeKept.ts")) });
    await using around = await Surroundings.open({ disk }, configurationFor);
    const socket = this.#path("control");
    const pagePort = freePort();
    const forwards = [[pagePort, 8443]] as const;
    await using box = this.#start({ disk, forwards }, await this.#places(disk, []), savable(socket));
    await box.shellReady();
    await holds("a birth", async () => (around.birth.sw === undefined ? null : true), readyMsMax, askEachMs);
    await pageReady(pagePort, readyMsMax, askEachMs);
    await box.shell("sync; echo 3 >/proc/sys/vm/drop_caches");
    await saveMachine(socket, this.#path("ready.state"));
    writeFileSync(this.#path("ready.json"), JSON.stringify({ brokerPort: around.broker.port }));
  }

  /** Disks of one size: what the box knows of them is saved with it. */
  async #places(disk: string, bundles: readonly string[]): Promise<readonly string[]> {
    const words: string[] = [];
    for (let place = 0; place < bundlePlaces; place += 1) {
      const file = `${disk}.bundle${place}`;
      await run(bundles[place] === undefined ? ["touch", file] : ["cp", bundles[place]!, file]);
      await run(["truncate", "-s", `${bundleMiB}M`, file]);
      words.push("-drive", `file=${file},format=raw,if=none,id=b${place},readonly=on`);
      words.push("-device", `virtio-blk-pci,drive=b${place},serial=bundle${place}`);
    }
    return words;
  }

  #start({ disk, forwards = [], drive }: Start, places: readonly string[], more: readonly string[]): BootedBox {
    const parts = { architecture: architectureOf(this.image), disk, forwards, more: [...places, ...more] };
    return new BootedBox(drive === undefined ? parts : { ...parts, drive });
  }

  #path(name: string): string {
    return join(this.directory, name);
  }
}
