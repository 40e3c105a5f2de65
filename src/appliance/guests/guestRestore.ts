// SPDX-License-Identifier: Apache-2.0
/**
 * Brings a guest back from a checkpoint in a process of Cloud Hypervisor that stands by, or else in a new one.
 *
 * A new process starts while the first pages are read; either takes the guest in while its memory goes on arriving. Gets a
 * guest and a checkpoint; gives the running process and the restore that still feeds it. Called off or failed, nothing of it
 * stays but the disks it had before.
 */
import { rmSync } from "node:fs";
import { basename, join } from "node:path";
import { explainInLine, HypervisorError, StorageError } from "#errors.ts";
import type { HeldRestore } from "#restoration/heldRestore.ts";
import type { Restore, RestoreProgress } from "#restoration/restore.ts";
import type { RestoreOrder } from "#restoration/runRestore.ts";
import { abortable } from "#tasks.ts";
import { Hypervisor } from "#vm/hypervisor.ts";
import type { CallOptions } from "#vm/restClient.ts";
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

/** A process that stands by. */
export type Standby = {
  readonly hypervisor: Hypervisor;
  readonly held: HeldRestore;
  readonly directory: RunDirectory;
  /** Resolves once Cloud Hypervisor has taken its guest in. */
  readonly received: Promise<unknown>;
  /** While it stands by it is the first to go where memory runs out; the guest is not. */
  readonly keepAsGuest: () => void;
};

/** Where Cloud Hypervisor sends its guest. */
export const outSocket = (directory: RunDirectory): string => join(directory.path, "out.sock");

/** @throws HypervisorError, StorageError, NativeError */
export async function restoreGuest(
  parts: GuestParts,
  id: string,
  standby: Standby | null,
  signal: AbortSignal,
): Promise<Restored> {
  if (standby !== null) {
    try {
      return await fromStandby(parts, id, standby, signal);
    } catch (error) {
      if (signal.aborted || isDamage(error)) throw error;
      parts.log("warn", "guest.standbyFailed", { why: explainInLine(error) });
    }
  }
  return await fromNew(parts, id, signal);
}

/** What is wanted of a restore; the same for as long as the checkpoint and the section are. */
export function restoreOrder({ section, user }: GuestParts, checkpoint: string): Omit<RestoreOrder, "path"> {
  const { eagerMsMax, prefetchMsMax } = section.checkpoint;
  const mode = whyNotLazy(user !== undefined) === null ? null : "eager";
  const eagerBytesMax = eagerMsMax * eagerBytesPerMs;
  return { checkpoint, guest: section.name, mode, eagerBytesMax, prefetchMsMax, disks: {} };
}

/** Lets an empty process wait for its guest. Resolves once that is in; whoever waits elsewhere need not look at it. */
export function receiveInto(
  hypervisor: Hypervisor,
  directory: RunDirectory,
  mode: RestoreProgress["mode"],
  options: CallOptions,
): Promise<unknown> {
  rmSync(directory.inSocket, { force: true });
  const lazy = mode === "lazy" ? { memory_mode: "Postcopy" as const } : {};
  const body = { receiver_url: `unix:${basename(directory.inSocket)}`, ...lazy };
  const received = hypervisor.call("vm.receive-migration", body, options);
  received.catch(() => {});
  return received;
}

/** A checkpoint is for the build that made it. */
export function refuseOther({ version }: Hypervisor, build: string): void {
  if (version.name === build) return;
  const message = `the checkpoint was made by Cloud Hypervisor ${build}; here is ${version.name}`;
  throw new HypervisorError("hypervisor.versionUnknown", message);
}

async function fromStandby(parts: GuestParts, id: string, standby: Standby, signal: AbortSignal): Promise<Restored> {
  const { hypervisor, held, directory: seat, received, keepAsGuest } = standby;
  const { section, directory, user, log } = parts;
  const restore = held.begin();
  return await orNothing(parts, id, restore, async (own) => {
    own(hypervisor);
    keepAsGuest();
    log("info", "guest.standbyTaken", { pid: hypervisor.pid });
    const ready = restore.ready();
    ready.catch(() => {});
    await openCards(section.name, section.machine.net, { user });
    placeDisks(parts.checkpoints.disksOf(id));
    await ready;
    // The guest's process is gone; what it left would be in the way.
    directory.removeSockets();
    directory.removeTraces();
    directory.give(seat.seat);
    return await handOver(hypervisor, restore, seat, received, signal);
  });
}

async function fromNew(parts: GuestParts, id: string, signal: AbortSignal): Promise<Restored> {
  const { section, directory, program, user, kvm, clock, log, checkpoints } = parts;
  const order = restoreOrder(parts, id);
  if (order.mode === "eager") log("info", "guest.eager", { why: whyNotLazy(user !== undefined) });
  const restore = checkpoints.restore(order);
  return await orNothing(parts, id, restore, async (own) => {
    await openCards(section.name, section.machine.net, { user });
    const optional = { ...(user === undefined ? {} : { user }), ...(kvm === undefined ? {} : { kvm }) };
    const hypervisor = await Hypervisor.launch({ directory, clock, program, log, signal, ...optional });
    own(hypervisor);
    refuseOther(hypervisor, checkpoints.find(id).build);
    placeDisks(checkpoints.disksOf(id));
    const { mode } = await restore.ready();
    const received = receiveInto(hypervisor, directory, mode, { signal });
    return await handOver(hypervisor, restore, directory, received, signal);
  });
}

/** `act` says which process it has, which ends with the rest where it fails. */
async function orNothing(
  { checkpoints }: GuestParts,
  id: string,
  restore: Restore,
  act: (own: (hypervisor: Hypervisor) => void) => Promise<Restored>,
): Promise<Restored> {
  let owned: Hypervisor | null = null;
  try {
    return await act((hypervisor) => {
      owned = hypervisor;
    });
  } catch (error) {
    const hypervisor = owned as Hypervisor | null;
    await hypervisor?.kill();
    await hypervisor?.[Symbol.asyncDispose]();
    putDisksBack(checkpoints.disksOf(id).map(({ path }) => path));
    restore[Symbol.dispose]();
    throw error;
  }
}

/** Resolves once it runs, with the promise that it needs us no longer. */
async function handOver(
  hypervisor: Hypervisor,
  restore: Restore,
  directory: RunDirectory,
  received: Promise<unknown>,
  signal: AbortSignal,
): Promise<Restored> {
  const { running, served } = restore.run(directory.inSocket, hypervisor.pid);
  served.catch(() => {});
  // Whichever end fails first knows why; the other only sees a closed connection.
  await abortable(Promise.race([running, received.then(() => running)]), signal);
  await abortable(received, signal);
  rmSync(directory.inSocket, { force: true });
  await hypervisor.look();
  signal.throwIfAborted();
  return { hypervisor, restore, served };
}

const damages: readonly string[] = [
  "storage.pageCorrupt",
  "storage.extentMissing",
  "storage.checkpointCorrupt",
  "storage.corrupt",
];
/** The checkpoint itself is to blame. */
export const isDamage = (error: unknown): boolean => error instanceof StorageError && damages.includes(error.code);
