// SPDX-License-Identifier: Apache-2.0
/**
 * One restore, timed: by Holdfast with a process that is launched for it or with one that stands by, or by Cloud Hypervisor
 * itself. Gets a scene and what to restore; gives times from the request on, and the machine, which the caller ends.
 */
import { rmSync } from "node:fs";
import { systemClock } from "#clock.ts";
import type { HeldRestore } from "#restoration/heldRestore.ts";
import type { Restore } from "#restoration/restore.ts";
import type { RestoreOrder } from "#restoration/runRestore.ts";
import { pageBytes } from "#vm/offload/guestRam.ts";
import { Machine, type Scene, told } from "./checkpointScene.ts";

export type Times = {
  /** 0 where the process was there already. */
  readonly launchMs: number;
  readonly runningMs: number;
  /** Without the time in which an eager restore writes its memory. */
  readonly answerMs: number;
  readonly machine: Machine;
};
export type OurTimes = Times & {
  readonly fillMs: number;
  readonly demandedPages: number;
  readonly touched: readonly number[];
};
type Mode = "lazy" | "eager";

/** For the Worker that a supervisor keeps warm. */
const settleMs = 250;
export const since = (fromNs: number): number => (systemClock.monotonicNs() - fromNs) / 1e6;

export class RestoreRuns {
  constructor(
    private readonly scene: Scene,
    /** Where the guest tells. */
    private readonly tells: string,
  ) {}

  /** By a process that starts while the first pages are read. The clock starts with both, the Worker is warm. */
  async cold(checkpoint: string, guest: string, mode: Mode, whole = false): Promise<OurTimes> {
    this.scene.checkpoints.expectRestore(guest);
    rmSync(this.tells, { force: true });
    await systemClock.sleep(settleMs);
    const fromNs = systemClock.monotonicNs();
    const restore = this.scene.checkpoints.restore(this.#order(checkpoint, guest, mode));
    const machine = await Machine.launch(this.scene.place("r"));
    const launchMs = since(fromNs);
    await restore.ready();
    const waitedMs = since(fromNs) - launchMs;
    const received = receive(machine, mode);
    return await this.#finish({ restore, machine, received, fromNs, launchMs, waitedMs, guest, whole });
  }

  /** By a process that stands by, with all that it can have before. The clock starts with the request. */
  async standby(checkpoint: string, guest: string, mode: Mode): Promise<OurTimes> {
    this.scene.checkpoints.expectRestore(guest);
    rmSync(this.tells, { force: true });
    const { held, machine, received } = await this.raise(checkpoint, guest, mode);
    await systemClock.sleep(settleMs);
    const fromNs = systemClock.monotonicNs();
    const restore = held.begin();
    await restore.ready();
    const waitedMs = since(fromNs);
    return await this.#finish({ restore, machine, received, fromNs, launchMs: 0, waitedMs, guest, whole: false });
  }

  async raise(
    checkpoint: string,
    guest: string,
    mode: Mode,
  ): Promise<{ readonly held: HeldRestore; readonly machine: Machine; readonly received: Promise<unknown> }> {
    const held = await this.scene.checkpoints.hold(this.#order(checkpoint, guest, mode));
    const machine = await Machine.launch(this.scene.place("s"));
    const received = receive(machine, mode);
    received.catch(() => {});
    await held.offer(machine.directory.inSocket, machine.hypervisor.pid, true);
    return { held, machine, received };
  }

  /** By Cloud Hypervisor itself, from a snapshot on the same disk. */
  async theirs(snapshot: string): Promise<Times> {
    rmSync(this.tells, { force: true });
    await systemClock.sleep(settleMs);
    const fromNs = systemClock.monotonicNs();
    const machine = await Machine.launch(this.scene.place("t"));
    const launchMs = since(fromNs);
    const how = { source_url: `file://${snapshot}`, memory_restore_mode: "OnDemand" as const, resume: true };
    await machine.hypervisor.call("vm.restore", how);
    const runningMs = since(fromNs);
    await told(this.tells);
    return { launchMs, runningMs, answerMs: since(fromNs), machine };
  }

  #order(checkpoint: string, guest: string, mode: Mode): Omit<RestoreOrder, "path"> {
    return { checkpoint, guest, mode, disks: {}, eagerBytesMax: 0, prefetchMsMax: 20 };
  }

  async #finish(begun: {
    readonly restore: Restore;
    readonly machine: Machine;
    readonly received: Promise<unknown>;
    readonly fromNs: number;
    readonly launchMs: number;
    readonly waitedMs: number;
    readonly guest: string;
    readonly whole: boolean;
  }): Promise<OurTimes> {
    const { restore, machine, received, fromNs, launchMs, waitedMs, guest, whole } = begun;
    const { running, served } = restore.run(machine.directory.inSocket, machine.hypervisor.pid);
    await running;
    const runningMs = since(fromNs);
    await received;
    await machine.hypervisor.look();
    await told(this.tells);
    const answerMs = since(fromNs);
    // Only where it is asked for: a large memory takes its time, and the guest has answered.
    if (!whole) await machine.hypervisor.kill();
    const touched = await served.catch(() => []);
    const fillMs = since(fromNs) - runningMs;
    if (whole && touched.length > 0) await this.scene.checkpoints.touched(guest, touched);
    restore[Symbol.dispose]();
    const demandedPages = restore.progress.demandedBytes / pageBytes;
    const comparableMs = restore.prepared.mode === "lazy" ? answerMs : answerMs - waitedMs;
    return { launchMs, runningMs, answerMs: comparableMs, machine, fillMs, demandedPages, touched };
  }
}

function receive({ hypervisor }: Machine, mode: Mode): Promise<unknown> {
  const body = mode === "lazy" ? { memory_mode: "Postcopy" as const } : {};
  return hypervisor.call("vm.receive-migration", { receiver_url: "unix:in.sock", ...body });
}
