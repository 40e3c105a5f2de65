// SPDX-License-Identifier: Apache-2.0
/**
 * What a keeper of locks sees of a program inside a guest. Gets looks at its threads and its memory through the stub; gives
 * who waits for a lock, as of the last `refresh`, and what stands around it, read anew before anything is written.
 *
 * Limits: 64 threads a look; memory within `aroundBytes` of a lock that somebody waits for.
 */
import type { Clock } from "#clock.ts";
import { GdbError } from "#errors.ts";
import { address, type ThreadControl, type VirtualAddress } from "#fault.ts";
import type { GdbClient } from "../gdb/client.ts";
import { callFunction } from "../injectedFunctions.ts";
import { type LockWait, LockWaits } from "../lockWaits.ts";
import type { BlockedThread } from "../processes.ts";
import { RemoteView } from "./remoteView.ts";

const threadsMax = 64;
/** glibc's largest lock, and what lies before the word that is waited on. */
const aroundBytes = 64n;

/** The parts of a guest program's watch that are needed here. */
export interface GuestThreads {
  readonly pid: number;
  readonly clock: Clock;
  threadIds(): readonly number[];
  threadState(tid: number): "idle" | "busy" | "gone";
  /** Looks at one thread now. @throws GdbError */
  look(tid: number): Promise<unknown>;
  /** Where a thread was blocked when it was last looked at; null where it was not. */
  blockedAt(tid: number): BlockedThread | null;
  isAtRest(tid: number, place: { sp: VirtualAddress; pc: VirtualAddress }): boolean;
  control(tid: number, signal: string): ThreadControl;
  /** @throws GdbError "gdb.refused" where the program has none of that name */
  functionNamed(name: string): VirtualAddress;
}

export class RemoteLocks {
  readonly #waits: LockWaits;
  readonly #view: RemoteView;
  #seen: readonly LockWait[] = [];

  constructor(
    private readonly threads: GuestThreads,
    client: GdbClient,
  ) {
    const { pid } = threads;
    const blockedAt = (tid: number): BlockedThread | null => threads.blockedAt(tid);
    this.#waits = new LockWaits(client.architecture, () => this.threadIds(), blockedAt);
    this.#view = new RemoteView(pid, client.architecture, (from, bytes) => client.readMemory(from, bytes, pid));
  }

  threadIds(): readonly number[] {
    return this.threads.threadIds().slice(0, threadsMax);
  }

  threadState(tid: number): "idle" | "busy" | "gone" {
    return this.threads.threadState(tid);
  }

  /** Looks at every thread, and reads what stands around each lock that one waits for. @throws GdbError */
  async refresh(): Promise<void> {
    for (const tid of this.threadIds()) await this.threads.look(tid);
    this.#seen = this.#waits.look(this.threads.clock.monotonicNs());
    await this.#read(this.#seen.map(({ at }) => at));
  }

  lockWaits(): readonly LockWait[] {
    return this.#seen;
  }

  readMemory(from: VirtualAddress, lengthBytes: number): Uint8Array {
    return this.#view.readMemory(from, lengthBytes);
  }

  /** Stops a thread for as long as `work` takes. A wait that this interrupts is made again by the kernel. @throws GdbError */
  async whileStopped(tid: number, client: GdbClient, work: (control: ThreadControl) => Promise<void>): Promise<void> {
    const { signal } = await client.stopThread(tid);
    // Where it has stopped by itself meanwhile, it is the lane's.
    if (signal !== "SIGSTOP") throw new GdbError("gdb.refused", `thread ${tid} has stopped by ${signal}`);
    const control = this.threads.control(tid, signal);
    try {
      await this.#read(this.#seen.filter((wait) => wait.tid === tid).map(({ at }) => at));
      await work(control);
    } finally {
      await control.resume();
    }
  }

  /** Has a thread that waits for work call a function of the C library. @throws GdbError "gdb.refused" where it cannot */
  async callIn(tid: number, name: string, argument: bigint, client: GdbClient): Promise<bigint> {
    const at = this.threads.functionNamed(name);
    const isThere = (place: { sp: VirtualAddress; pc: VirtualAddress }): boolean => this.threads.isAtRest(tid, place);
    const write = (to: VirtualAddress, bytes: Uint8Array): Promise<void> => client.writeMemory(to, bytes, tid);
    return await callFunction({ tid, at, argument }, client, isThere, write);
  }

  async #read(locks: readonly VirtualAddress[]): Promise<void> {
    this.#view.forget();
    for (const at of locks) await this.#view.fetch(address(at - aroundBytes), Number(2n * aroundBytes));
  }
}
