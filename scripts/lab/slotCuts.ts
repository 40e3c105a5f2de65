// SPDX-License-Identifier: Apache-2.0
/**
 * Power cuts while firmware, boot loader and initial RAM disk run, each checked as far as the slot's system is found: the
 * boot loader counts its tries on the disk, and must find its way after any cut of that.
 *
 * Each start is recorded, and the next cut is a moment of it: by time, and in turn right after one of its writes. So one box
 * is cut again and again, and its tries add up as they do in the field.
 */
import { rmSync } from "node:fs";
import { join } from "node:path";
import { seededRandom, systemClock } from "#clock.ts";
import { run } from "#image/commands.ts";
import { architectureOf, copyDisk } from "#image/run.ts";
import { BootedBox, bootMsMax } from "./bootedBox.ts";
import { anyTime, anyWrite, cutAfter, RecordingDisk, readTold, type Span } from "./diskRecord.ts";
import { LabError } from "./labError.ts";
import { serveNbd } from "./nbdServer.ts";
import { nbdDrive } from "./poweredDisk.ts";
import { environmentOn } from "./slotMarks.ts";

/** A slot has three tries, and then comes the other one. */
const startsMax = 3;

type Started = { readonly slot: string; readonly starts: number; readonly seconds: number; readonly span: Span };

export class SlotCuts {
  #last: Started | null = null;

  constructor(
    private readonly image: string,
    private readonly directory: string,
    private readonly seed: number,
  ) {}

  /** @throws LabError lab.machine where it does not come up */
  async cut(index: number): Promise<Record<string, unknown>> {
    const random = seededRandom(this.seed * 100_003 + index);
    const [disk, record] = [this.#path("box.img"), this.#path("start")];
    if (this.#last === null) {
      await copyDisk(this.image, disk, 0);
      this.#last = await this.#start(disk, record);
    }
    const moment = (index % 2 === 0 ? anyTime : anyWrite)(readTold(record), this.#last.span, random);
    const report = cutAfter(record, moment.count, disk, Math.floor(random() * 2 ** 31));
    const environment = await environmentOn(disk);
    this.#last = await this.#start(disk, record);
    const { slot, starts, seconds } = this.#last;
    if (starts > startsMax) throw new LabError("lab.machine", `slot ${slot} came only with start ${starts}`);
    return { afterMs: Math.round(moment.atNs / 1e6), ...report, environment, slot, starts, seconds };
  }

  /** To the system of a slot, on a copy of the disk: the disk stays as it was before. */
  async #start(disk: string, record: string): Promise<Started> {
    const [copy, socket] = [this.#path("running.img"), this.#path("start.socket")];
    await run(["cp", "--sparse=always", disk, copy]);
    rmSync(socket, { force: true });
    using recording = new RecordingDisk(copy, record);
    using _served = serveNbd(socket, recording);
    const drive = nbdDrive(socket, "disk");
    await using box = new BootedBox({ architecture: architectureOf(this.image), disk, forwards: [], drive });
    const beganNs = systemClock.monotonicNs();
    const [, slot] = await box.says(/Holdfast: slot ([AB]) on /, bootMsMax * startsMax);
    const starts = [...box.console.matchAll(/BdsDxe: starting/g)].length;
    const seconds = Math.round((systemClock.monotonicNs() - beganNs) / 1e9);
    return { slot: slot!, starts, seconds, span: { fromNs: 0, toNs: recording.nowNs() } };
  }

  #path(name: string): string {
    return join(this.directory, name);
  }
}
