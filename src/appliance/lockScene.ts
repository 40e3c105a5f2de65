// SPDX-License-Identifier: Apache-2.0
/**
 * What a keeper of locks sees of a program: the watch and the client of now. Between two stubs it sees nobody wait, since
 * nothing could be released then. Tells each release to the record and to whoever watches.
 */
import { hex } from "#bytes.ts";
import type { Clock } from "#clock.ts";
import { GdbError } from "#errors.ts";
import type { ThreadControl } from "#fault.ts";
import type { GdbClient } from "#monitor/gdb/client.ts";
import type { Watch } from "#monitor/watch.ts";
import type { Storage } from "#storage/storage.ts";
import { LockKeeper, type LockLooks, type LockRelease, type LockScene } from "./lockKeeper.ts";
import type { Notices } from "./notices.ts";

export type LockParts = {
  readonly name: string;
  readonly clock: Clock;
  readonly storage: Pick<Storage, "event">;
  readonly notices: Notices;
  /** Told of a lock that somebody waits for and that nobody can release. */
  readonly stuck: (why: string) => void;
};

/** Watch and client of the protection of now; null where there is none. */
export type Present = { readonly watch: Watch; readonly client: GdbClient } | null;

/** A watch, which acts through the client of now. */
export interface LockWatch extends LockLooks {
  whileStopped(tid: number, client: GdbClient, work: (control: ThreadControl) => Promise<void>): Promise<void>;
  callIn(tid: number, name: string, argument: bigint, client: GdbClient): Promise<bigint>;
}
export type LockPresent = { readonly watch: LockWatch; readonly client: GdbClient } | null;

export function lockKeeperOf(
  { name, clock, storage, notices, stuck }: LockParts,
  present: () => LockPresent,
  /** Whether its watch has to be refreshed before it is asked. */
  isRemote = false,
): LockKeeper {
  const scene: LockScene = {
    ...(isRemote && { refresh: async () => await present()?.watch.refresh?.() }),
    lockWaits: () => present()?.watch.lockWaits() ?? [],
    threadIds: () => present()?.watch.threadIds() ?? [],
    threadState: (tid) => present()?.watch.threadState(tid) ?? "busy",
    hasDied: (tid) => present()?.watch.hasDied?.(tid) ?? false,
    readMemory: (from, bytes) => present()?.watch.readMemory(from, bytes) ?? new Uint8Array(),
    whileStopped: async (tid, work) => {
      const now = present();
      if (now === null) throw new GdbError("gdb.closed", "the program has no stub just now");
      await now.watch.whileStopped(tid, now.client, work);
    },
    callIn: async (tid, name, argument) => {
      const now = present();
      if (now === null) throw new GdbError("gdb.closed", "the program has no stub just now");
      return await now.watch.callIn(tid, name, argument, now.client);
    },
    get architecture() {
      return present()?.client.architecture ?? "x86_64";
    },
  };
  const told = ({ at, owner, waiter }: LockRelease): void => {
    storage.event("lock.released", name, { at: hex(at), owner, waiter });
    notices.tell({ event: "released", workload: name, address: hex(at), owner, waiter });
  };
  const failed = (why: string): void => storage.event("lock.failed", name, { why });
  return new LockKeeper(scene, clock, told, failed, (why) => {
    storage.event("lock.stuck", name, { why });
    stuck(why);
  });
}
