// SPDX-License-Identifier: Apache-2.0
/**
 * A file system on a disk whose power can be cut: cutDisk over NBD, made a file by nbdfuse, a block device by the loop
 * driver, and mounted. Gets an image with an ext4 file system; gives a directory, and the cut.
 *
 * nbdfuse and loop pass every write on at once and every flush as a flush, so what the kernel believes durable is what the
 * disk was told to make durable. Needs root, /dev/fuse, /dev/loop-control and nbdfuse (Debian: libnbd-bin); no kernel module.
 */
import { existsSync, mkdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { deadline, systemClock } from "#clock.ts";
import { assert } from "#errors.ts";
import type { CutReport } from "./cutDisk.ts";

const startMsMax = 10_000;
const pollMs = 5;

/** Makes an image of `bytes` with an empty ext4 file system. */
export function makeImage(path: string, bytes: number): void {
  run("truncate", "-s", String(bytes), path);
  run("mkfs.ext4", "-q", "-F", path);
}

export class CutMount implements AsyncDisposable {
  /** Where the file system is. */
  readonly directory: string;
  #disk: Bun.Subprocess<"ignore", "pipe", "inherit"> | null = null;
  #cut = false;
  #release: (() => Promise<void> | void)[] = [];

  /** Mounts `image` below `scratch`, which must be empty of an earlier mount. */
  static async open(image: string, scratch: string, seed: number, ignoreFlushes = false): Promise<CutMount> {
    const mount = new CutMount(join(scratch, "mount"));
    try {
      await mount.#attach(image, scratch, seed, ignoreFlushes);
      return mount;
    } catch (error) {
      await mount[Symbol.asyncDispose]();
      throw error;
    }
  }

  private constructor(directory: string) {
    this.directory = directory;
  }

  /** The power goes. From now on everything on the disk fails; dispose to get rid of what is left. */
  async cut(): Promise<CutReport> {
    assert(this.#disk !== null && !this.#cut, "there is no disk whose power is on");
    this.#cut = true;
    this.#disk.kill("SIGUSR1");
    return JSON.parse(await new Response(this.#disk.stdout).text()) as CutReport;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const release of this.#release.splice(0).reverse()) await release();
  }

  async #attach(image: string, scratch: string, seed: number, ignoreFlushes: boolean): Promise<void> {
    const socket = join(scratch, "nbd.socket");
    const exported = join(scratch, "fuse");
    for (const directory of [exported, this.directory]) mkdirSync(directory, { recursive: true });
    await this.#serve(image, socket, seed, ignoreFlushes);
    const ready = join(scratch, "nbdfuse.pid");
    rmSync(ready, { force: true });
    const fuse = Bun.spawn(["nbdfuse", "-P", ready, join(exported, "disk"), `nbd+unix:///?socket=${socket}`], {
      stdio: ["ignore", "ignore", "ignore"],
    });
    this.#release.push(async () => {
      Bun.spawnSync(["umount", "-l", exported]);
      fuse.kill("SIGKILL");
      await fuse.exited;
    });
    await appear(ready);
    const loop = await output("losetup", "--find", "--show", "--direct-io=on", join(exported, "disk"));
    this.#release.push(async () => void (await Bun.spawn(["losetup", "-d", loop]).exited));
    await output("mount", loop, this.directory);
    this.#release.push(async () => {
      // Lazily where the power is off: nothing can be written back any more.
      const lazy = this.#cut ? ["-l"] : [];
      await Bun.spawn(["umount", ...lazy, this.directory], { stdio: ["ignore", "ignore", "ignore"] }).exited;
    });
  }

  /** The disk lives in a process of its own: a test that reads the file system waits for it, in its only thread. */
  async #serve(image: string, socket: string, seed: number, ignoreFlushes: boolean): Promise<void> {
    rmSync(socket, { force: true });
    const words = ["--socket", socket, "--image", image, "--seed", String(seed)];
    const program = join(import.meta.dir, "cutDisk.ts");
    const disk = Bun.spawn([process.execPath, program, ...words, ...(ignoreFlushes ? ["--ignore-flushes"] : [])], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    this.#disk = disk;
    this.#release.push(async () => {
      disk.kill("SIGKILL");
      await disk.exited;
    });
    await appear(socket);
  }
}

async function appear(path: string): Promise<void> {
  const late = (): Error => new DOMException(`${path} did not appear within ${startMsMax} ms`, "TimeoutError");
  using patience = deadline(startMsMax, late);
  while (!existsSync(path)) await systemClock.sleep(pollMs, patience.signal);
}

async function output(...command: string[]): Promise<string> {
  const child = Bun.spawn(command, { stdio: ["ignore", "pipe", "pipe"] });
  const [text, complaint] = await Promise.all([new Response(child.stdout).text(), new Response(child.stderr).text()]);
  assert((await child.exited) === 0, `${command.join(" ")}: ${complaint.trim()}`);
  return text.trim();
}

function run(...command: string[]): void {
  const { exitCode, stderr } = Bun.spawnSync(command);
  assert(exitCode === 0, `${command.join(" ")}: ${stderr.toString().trim()}`);
}
