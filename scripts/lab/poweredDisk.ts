// SPDX-License-Identifier: Apache-2.0
/**
 * A disk for QEMU that keeps only what was flushed (cutDisk.ts, in a process of its own). Gets an image file; gives the
 * words that attach it, and the cut. The file is then what a machine would find.
 */
import { existsSync, rmSync } from "node:fs";
import { join } from "node:path";
import { systemClock } from "#clock.ts";
import type { CutReport } from "./cutDisk.ts";
import { LabError } from "./labError.ts";

const startMsMax = 20_000;
const pollMs = 20;
let disks = 0;

/** A disk that is served at this socket, as QEMU names it. */
export const nbdDrive = (socket: string, id: string): string =>
  `file=nbd+unix:///?socket=${socket},format=raw,if=none,id=${id},cache=writeback`;

export class PoweredDisk implements AsyncDisposable {
  readonly #server: Bun.Subprocess<"ignore", "pipe", "inherit">;

  static async open(image: string, directory: string, seed: number): Promise<PoweredDisk> {
    disks += 1;
    const disk = new PoweredDisk(image, join(directory, `nbd-${disks}`), seed);
    const limitNs = systemClock.monotonicNs() + startMsMax * 1e6;
    while (!existsSync(disk.socket)) {
      if (systemClock.monotonicNs() > limitNs) throw new LabError("lab.machine", `nothing serves ${disk.socket}`);
      await systemClock.sleep(pollMs);
    }
    return disk;
  }

  private constructor(
    image: string,
    private readonly socket: string,
    seed: number,
  ) {
    const words = ["--socket", socket, "--image", image, "--seed", String(seed)];
    this.#server = Bun.spawn([process.execPath, join(import.meta.dir, "cutDisk.ts"), ...words], {
      stdio: ["ignore", "pipe", "inherit"],
    });
  }

  /** As QEMU names it. */
  drive(id: string): string {
    return nbdDrive(this.socket, id);
  }

  /** From now on everything on it fails. */
  async cut(): Promise<CutReport> {
    this.#server.kill("SIGUSR1");
    return JSON.parse(await this.#server.stdout.text()) as CutReport;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.kill("SIGKILL");
    await this.#server.exited;
    rmSync(this.socket, { force: true });
  }
}
