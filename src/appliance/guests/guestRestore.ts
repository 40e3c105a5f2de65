// SPDX-License-Identifier: Apache-2.0
/**
 * Brings a guest back from a checkpoint in a new process of Cloud Hypervisor.
 *
 * The process starts while the first pages are read; it takes the guest in while its memory goes on arriving. Gets a guest
 * and a checkpoint; gives the running process and the restore that still feeds it. Called off or failed, nothing of it stays
 * but the disks it had before.
 */
import { rmSync } from "node:fs";
import { join } from "node:path";
import { HypervisorError } from "#errors.ts";
import type { Checkpoints } from "#restoration/checkpoints.ts";
import type { Restore } from "#restoration/restore.ts";
import { Hypervisor } from "#vm/hypervisor.ts";
import type { RunDirectory } from "#vm/runDirectory.ts";
import { whyNotLazy } from "./checkpointAbility.ts";
import { placeDisks, putDisksBack } from "./guestDisks.ts";
import { openCards } from "./guestNet.ts";
import type { GuestParts } from "./incarnation.ts";

/** Eager restores write so much a millisecond, measured on a slow box. */
const eagerBytesPerMs = 600_000;

export type Restored = {
  readonly hypervisor: Hypervisor;
  readonly restore: Restore;
  readonly served: Promise<readonly number[]>;
};

/** Where Cloud Hypervisor waits for its guest, and where it sends it. */
export const inSocket = (directory: RunDirectory): string => join(directory.path, "in.sock");
export const outSocket = (directory: RunDirectory): string => join(directory.path, "out.sock");

/** @throws HypervisorError, StorageError, NativeError */
export async function restoreGuest(
  parts: GuestParts,
  checkpoints: Checkpoints,
  id: string,
  signal: AbortSignal,
): Promise<Restored> {
  const { section, directory, program, user, kvm, clock, log } = parts;
  const clones = checkpoints.disksOf(id);
  const whyEager = whyNotLazy(user !== undefined);
  if (whyEager !== null) log("info", "guest.eager", { why: whyEager });
  const { eagerMsMax, prefetchMsMax } = section.checkpoint;
  const restore = checkpoints.restore({
    checkpoint: id,
    guest: section.name,
    mode: whyEager === null ? null : "eager",
    eagerBytesMax: eagerMsMax * eagerBytesPerMs,
    prefetchMsMax,
    disks: {},
  });
  let hypervisor: Hypervisor | null = null;
  try {
    await openCards(section.name, section.machine.net, { user });
    const optional = { ...(user === undefined ? {} : { user }), ...(kvm === undefined ? {} : { kvm }) };
    hypervisor = await Hypervisor.launch({ directory, clock, program, log, signal, ...optional });
    refuseOther(hypervisor, checkpoints.find(id).build);
    placeDisks(clones);
    await restore.ready();
    const { served } = await handOver(hypervisor, restore, directory, signal);
    return { hypervisor, restore, served };
  } catch (error) {
    await hypervisor?.kill();
    await hypervisor?.[Symbol.asyncDispose]();
    putDisksBack(clones.map(({ path }) => path));
    restore[Symbol.dispose]();
    throw error;
  }
}

/** Resolves once it runs, with the promise that it needs us no longer. */
async function handOver(
  hypervisor: Hypervisor,
  restore: Restore,
  directory: RunDirectory,
  signal: AbortSignal,
): Promise<{ readonly served: Promise<readonly number[]> }> {
  const socket = inSocket(directory);
  rmSync(socket, { force: true });
  const lazy = restore.prepared.mode === "lazy";
  const body = { receiver_url: "unix:in.sock", ...(lazy ? { memory_mode: "Postcopy" as const } : {}) };
  const received = hypervisor.call("vm.receive-migration", body, { signal });
  received.catch(() => {});
  const { running, served } = restore.run(socket, hypervisor.pid);
  served.catch(() => {});
  // Whichever end fails first knows why; the other only sees a closed connection.
  await Promise.race([running, received.then(() => running)]);
  await received;
  rmSync(socket, { force: true });
  await hypervisor.look();
  signal.throwIfAborted();
  return { served };
}

/** A checkpoint is for the build that made it. */
function refuseOther({ version }: Hypervisor, build: string): void {
  if (version.name === build) return;
  const message = `the checkpoint was made by Cloud Hypervisor ${build}; here is ${version.name}`;
  throw new HypervisorError("hypervisor.versionUnknown", message);
}
