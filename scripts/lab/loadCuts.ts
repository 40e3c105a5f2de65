// SPDX-License-Identifier: Apache-2.0
/**
 * Power cuts under load: the image's own kernel and system, started directly, write journal, outbox and checkpoints on an XFS
 * whose disk forgets what it was not told to make durable. After each cut all that was acknowledged must be there.
 *
 * The machine is booted once and saved before it has looked at the disk; each cut goes on from there: it mounts what the last
 * cut left, checks it, loads it again, and is cut. Every `cutsPerDisk` cuts the disk is a new one.
 */
import { existsSync, rmSync } from "node:fs";
import { join } from "node:path";
import { type Random, seededRandom, systemClock } from "#clock.ts";
import { mib, partitionOf } from "#image/layout.ts";
import type { ImageArchitecture } from "#image/packages.ts";
import { architectureOf, copyDisk, placeFiles } from "#image/run.ts";
import { BootedBox } from "./bootedBox.ts";
import { LabError, run } from "./commands.ts";
import { PoweredDisk } from "./poweredDisk.ts";
import { resumed, savable, saveMachine } from "./savedMachine.ts";

const gib = 1_073_741_824;
const diskGiB = 4;
const recordMiB = 1_536;
const cutsPerDisk = 10;
/** From the order to load on: mounted, opened, and some time of writing. */
const windowMs = 30_000;
const checkMsMax = 600_000;
const top = join(import.meta.dir, "../..");
/** What the load needs beside what the image has. */
const sources = ["scripts/lab/cutLoad.ts", "tests/crash", "tests/peers", "tests/unit/storage/sampleFault.ts"];
const terminals = { arm64: "", x86_64: "console=ttyS0,115200 " } as const;
const command =
  "holdfast.slot=A rauc.slot=A holdfast.tries=0 holdfast.env=good quiet panic=5 systemd.gpt_auto=no systemd.getty_auto=no systemd.unit=holdfast-shell.service";
const shipped = ["src", "board", "vm", "node_modules"];
const prepare = [
  "mkdir -p /run/lab /run/cut /run/disk",
  "tar -xf /esp/holdfast/lab.tar -C /run/lab --no-same-owner",
  ...shipped.map((name) => `ln -s /usr/lib/holdfast/${name} /run/lab/${name}`),
  "cp /usr/lib/holdfast/package.json /run/lab/",
  "modprobe xfs; sync; blockdev --flushbufs /dev/vdb; echo 3 >/proc/sys/vm/drop_caches",
].join("; ");
const program = "cd /run/lab; /usr/lib/holdfast/bin/bun scripts/lab/cutLoad.ts";
const mount = "mount -t xfs -o noatime /dev/vdb /run/disk";

const places = "/run/disk /run/cut";

type Acknowledged = { journal: number; outbox: number; checkpoint: number };
type Found = {
  readonly journal: number;
  readonly outbox: number;
  readonly checkpoints: number;
  readonly broken: readonly string[];
};

/** One machine and one disk, cut after cut. */
export class LoadCuts {
  #acknowledged: Acknowledged = { journal: 0, outbox: 0, checkpoint: 0 };
  #cutsOnDisk = 0;
  #isNew = true;

  private constructor(
    private readonly directory: string,
    private readonly architecture: ImageArchitecture,
    private readonly seed: number,
    private readonly ignoreFlushes: boolean,
  ) {}

  /** A folder that holds a saved machine is used again. */
  static async open(
    image: string,
    directory: string,
    seed: number,
    tell: (text: string) => void,
    ignoreFlushes = false,
  ): Promise<LoadCuts> {
    const cuts = new LoadCuts(directory, architectureOf(image), seed, ignoreFlushes);
    if (!existsSync(cuts.#path("machine.state"))) {
      tell("booting the machine once");
      await cuts.#boot(image);
    }
    return cuts;
  }

  /** @throws LabError lab.machine with what is broken */
  async cut(index: number): Promise<Record<string, unknown>> {
    const random = seededRandom(this.seed * 100_003 + index);
    if (this.#cutsOnDisk % cutsPerDisk === 0) await this.#newDisk();
    this.#cutsOnDisk += 1;
    await using powered = await PoweredDisk.open(
      this.#path("record.img"),
      this.directory,
      Math.floor(random() * 2 ** 31),
      this.ignoreFlushes,
    );
    await using box = this.#machine(powered, resumed(this.#path("machine.state")));
    const found = await this.#look(box);
    const afterMs = Math.floor(random() * windowMs);
    const report = await this.#loadAndCut(box, powered, found, afterMs, random);
    const { journal, outbox, checkpoint } = this.#acknowledged;
    return { afterMs, ...report, before: found, acknowledged: `${journal}/${outbox}/${checkpoint}` };
  }

  /** After the last cut: what it left. @throws LabError lab.machine */
  async end(): Promise<Found> {
    await using powered = await PoweredDisk.open(this.#path("record.img"), this.directory, 0);
    await using box = this.#machine(powered, resumed(this.#path("machine.state")));
    return await this.#look(box);
  }

  async #look(box: BootedBox): Promise<Found> {
    const make = this.#isNew ? "mkfs.xfs -q -f -m reflink=1 /dev/vdb && " : "";
    this.#isNew = false;
    await box.shell(`${make}${mount}`, checkMsMax);
    const { journal, outbox, checkpoint } = this.#acknowledged;
    const said = await box.shell(`${program} check ${places} ${journal} ${outbox} ${checkpoint}`, checkMsMax);
    const text = /^FOUND (\{.*\})$/m.exec(said)?.[1];
    if (text === undefined) throw new LabError("lab.machine", `nothing could be looked at: ${said.slice(-500)}`);
    const found = JSON.parse(text) as Found;
    if (found.broken.length > 0) throw new LabError("lab.machine", found.broken.join("; "));
    return found;
  }

  async #loadAndCut(
    box: BootedBox,
    powered: PoweredDisk,
    found: Found,
    afterMs: number,
    random: Random,
  ): Promise<Awaited<ReturnType<PoweredDisk["cut"]>>> {
    const seed = Math.floor(random() * 2 ** 31);
    const from = box.console.length;
    box.type(
      `(${program} checkpoints ${places} ${seed} &); ${program} load ${places} ${found.journal + 1} ${found.outbox + 1} ${seed}`,
    );
    await systemClock.sleep(afterMs);
    const report = await powered.cut();
    // What the console says after the cut was acknowledged before it, or is found out as missing.
    for (const [, kind, number] of box.console.slice(from).matchAll(/^LOAD (journal|outbox|checkpoint) (\d+)$/gm)) {
      const name = kind as keyof Acknowledged;
      this.#acknowledged[name] = Math.max(this.#acknowledged[name], Number(number));
    }
    return report;
  }

  async #newDisk(): Promise<void> {
    this.#acknowledged = { journal: 0, outbox: 0, checkpoint: 0 };
    this.#isNew = true;
    rmSync(this.#path("record.img"), { force: true });
    await run(["truncate", "-s", `${recordMiB}M`, this.#path("record.img")]);
  }

  async #boot(image: string): Promise<void> {
    const system = this.#path("system.img");
    await copyDisk(image, system, diskGiB * gib);
    await placeFiles(system, { shell: "yes\n" });
    await run(["tar", "-C", top, "-cf", this.#path("lab.tar"), ...sources]);
    const at = `${system}@@${partitionOf("esp").startMiB * mib}`;
    await run(["mcopy", "-o", "-i", at, this.#path("lab.tar"), "::holdfast/lab.tar"]);
    await this.#takeKernel(image);
    await this.#newDisk();
    await using powered = await PoweredDisk.open(this.#path("record.img"), this.directory, 0);
    const socket = this.#path("control");
    await using box = this.#machine(powered, savable(socket), true);
    await box.shellReady();
    await box.shell(prepare, checkMsMax);
    await saveMachine(socket, this.#path("machine.state"));
  }

  /** Out of the image's boot partition, as the boot loader would. */
  async #takeKernel(image: string): Promise<void> {
    const boot = partitionOf("boot_A");
    const place = [`skip=${boot.startMiB}`, `count=${boot.sizeMiB}`, "bs=1M", "conv=sparse", "status=none"];
    await run(["dd", `if=${image}`, `of=${this.#path("boot.img")}`, ...place]);
    for (const name of ["vmlinuz", "initrd"]) {
      await run(["debugfs", "-R", `dump /${name} ${this.#path(name)}`, this.#path("boot.img")]);
    }
  }

  /** Its own disk is written once, before it is saved; later on what it writes there is thrown away. */
  #machine(powered: PoweredDisk, more: readonly string[], isFirst = false): BootedBox {
    const system = this.#path("system.img");
    return new BootedBox({
      architecture: this.architecture,
      disk: system,
      forwards: [],
      drive: `file=${system},format=raw,if=none,id=disk,cache=writeback${isFirst ? "" : ",snapshot=on"}`,
      direct: {
        kernel: this.#path("vmlinuz"),
        initrd: this.#path("initrd"),
        command: `${terminals[this.architecture]}${command}`,
      },
      more: ["-drive", powered.drive("record"), "-device", "virtio-blk-pci,drive=record", ...more],
    });
  }

  #path(name: string): string {
    return join(this.directory, name);
  }
}
