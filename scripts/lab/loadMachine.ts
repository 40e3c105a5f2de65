// SPDX-License-Identifier: Apache-2.0
/**
 * The machine of the power cuts under load: the image's own kernel and system, started directly, booted once and saved before
 * it has looked at any of its disks. Gets disks; gives a machine that goes on from there in seconds.
 */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { run } from "#image/commands.ts";
import { mib, partitionOf } from "#image/layout.ts";
import { architectureOf, copyDisk, placeFiles } from "#image/run.ts";
import { BootedBox } from "./bootedBox.ts";
import { resumed, savable, saveMachine } from "./savedMachine.ts";

const gib = 1_073_741_824;
const systemGiB = 4;
const diskMiB = 1_536;
/** As many disks as the machine has places: all of one size, so that it does not matter which one is put where. */
export const placesMax = 11;
export const diskName = (place: number): string => `/dev/vd${String.fromCharCode("b".charCodeAt(0) + place)}`;
const prepareMsMax = 600_000;
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
  "modprobe xfs; sync",
  ...Array.from({ length: placesMax }, (_, place) => `blockdev --flushbufs ${diskName(place)}`),
  "echo 3 >/proc/sys/vm/drop_caches",
].join("; ");

/** An empty disk for one of its places. */
export const makeDisk = (path: string): Promise<string> => run(["truncate", "-s", `${diskMiB}M`, path]);

export class LoadMachine {
  private constructor(
    private readonly image: string,
    private readonly directory: string,
  ) {}

  /** A folder that holds a saved machine is used again. */
  static async open(image: string, directory: string, tell: (text: string) => void): Promise<LoadMachine> {
    const machine = new LoadMachine(image, directory);
    if (!existsSync(machine.#path("machine.state"))) {
      tell("booting the machine once");
      await machine.#save();
    }
    return machine;
  }

  /** Goes on, with these drives (as QEMU names them, by their ids `d0`, `d1` …) in its places; the rest are empty. */
  goOn(drives: readonly string[]): BootedBox {
    return this.#start(drives, resumed(this.#path("machine.state")), ",snapshot=on");
  }

  async #save(): Promise<void> {
    const system = this.#path("system.img");
    await copyDisk(this.image, system, systemGiB * gib);
    await placeFiles(system, { shell: "yes\n" });
    await run(["tar", "-C", top, "-cf", this.#path("lab.tar"), ...sources]);
    const at = `${system}@@${partitionOf("esp").startMiB * mib}`;
    await run(["mcopy", "-o", "-i", at, this.#path("lab.tar"), "::holdfast/lab.tar"]);
    await this.#takeKernel();
    await makeDisk(this.#path("empty.img"));
    const socket = this.#path("control");
    await using box = this.#start([], savable(socket), "");
    await box.shellReady();
    await box.shell(prepare, prepareMsMax);
    await saveMachine(socket, this.#path("machine.state"));
  }

  /** Out of the image's boot partition, as the boot loader would. */
  async #takeKernel(): Promise<void> {
    const boot = partitionOf("boot_A");
    const place = [`skip=${boot.startMiB}`, `count=${boot.sizeMiB}`, "bs=1M", "conv=sparse", "status=none"];
    await run(["dd", `if=${this.image}`, `of=${this.#path("boot.img")}`, ...place]);
    for (const name of ["vmlinuz", "initrd"]) {
      await run(["debugfs", "-R", `dump /${name} ${this.#path(name)}`, this.#path("boot.img")]);
    }
  }

  /** Its own disk is written once, before it is saved; later on what it writes there is thrown away. */
  #start(drives: readonly string[], more: readonly string[], mode: string): BootedBox {
    const system = this.#path("system.img");
    const empty = (place: number): string =>
      `file=${this.#path("empty.img")},format=raw,if=none,id=d${place},snapshot=on`;
    const architecture = architectureOf(this.image);
    const disks = Array.from({ length: placesMax }, (_, place) => [
      ...["-drive", drives[place] ?? empty(place)],
      ...["-device", `virtio-blk-pci,drive=d${place}`],
    ]);
    return new BootedBox({
      architecture,
      disk: system,
      forwards: [],
      drive: `file=${system},format=raw,if=none,id=disk,cache=writeback${mode}`,
      direct: {
        kernel: this.#path("vmlinuz"),
        initrd: this.#path("initrd"),
        command: `${terminals[architecture]}${command}`,
      },
      more: [...disks.flat(), ...more],
    });
  }

  #path(name: string): string {
    return join(this.directory, name);
  }
}
