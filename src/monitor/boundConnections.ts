// SPDX-License-Identifier: Apache-2.0
/**
 * Which connection is a thread's own, in servers that give each connection a thread: the one that it was last seen waiting on,
 * at the place where it waits for work. Gets looks at blocked threads; gives descriptors. Stops nothing.
 *
 * A descriptor's number is given to another connection once it is closed, so the socket's inode goes with it. A thread that
 * takes its work from a queue or a multiplexer has no connection of its own. Nor has one of a pool that waits on a connection
 * for a while and then leaves it to others (Puma): where threads are seen on another while the one before lives, or two on one,
 * no thread of the program is taken to have its own. Limits: 4,096 threads; the oldest goes first.
 */
import { readlinkSync } from "node:fs";
import type { ProgramView } from "#fault.ts";
import type { BlockedThread } from "./processes.ts";
import { polledDescriptor, waitedDescriptor } from "./waits.ts";

const threadsMax = 4096;
/** A thread that was seen so often without one is of another kind. */
const looksMax = 20;

/**
 * Of the last changes from one connection to another, more than this share while the first was alive is a pool. Few may be a
 * look that came between a close and the next accept of the same number.
 */
const pooledShare = 1 / 8;
/** So many changes are remembered in full; after that, old ones fade. */
const changesMax = 64;

type Binding = { readonly fd: number; readonly socket: string };

/** Descriptors of connections: of the thread that is asked about, and of all others. */
export type Bound = { readonly own: number | null; readonly others: ReadonlySet<number> };
export const unbound: Bound = { own: null, others: new Set() };

export class BoundConnections {
  readonly #bindings = new Map<number, Binding>();
  /** The one that each thread was last seen on, be it not its own any more. */
  readonly #before = new Map<number, Binding>();
  /** The thread that each connection was last seen with. */
  readonly #holders = new Map<string, number>();
  #changes = 0;
  #leftAlive = 0;
  /** Looks that found none, by thread. */
  readonly #without = new Map<number, number>();

  constructor(
    private readonly view: Pick<ProgramView, "pid" | "readMemory" | "architecture">,
    /** The socket that a descriptor is, by its name; null for any other file. */
    private readonly socketAt: (fd: number) => string | null = (fd) => socketOf(view.pid, fd),
  ) {}

  /** The thread was seen blocked there, waiting for work. */
  note(tid: number, blocked: BlockedThread): void {
    const { architecture } = this.view;
    const fd = waitedDescriptor(blocked, architecture) ?? polledDescriptor(blocked, architecture, this.#read);
    const socket = fd === null ? null : this.socketAt(fd);
    this.#bindings.delete(tid);
    if (fd === null || socket === null) {
      this.#without.set(tid, (this.#without.get(tid) ?? 0) + 1);
      if (this.#without.size > threadsMax) this.#without.delete(this.#without.keys().next().value!);
      return;
    }
    this.#without.delete(tid);
    this.#noteChange(tid, { fd, socket });
    keep(this.#bindings, tid, { fd, socket });
  }

  /** A change is a thread on another connection than before, or a connection with another thread. */
  #noteChange(tid: number, now: Binding): void {
    const before = this.#before.get(tid);
    const holder = this.#holders.get(now.socket);
    keep(this.#before, tid, now);
    keep(this.#holders, now.socket, tid);
    if (holder !== undefined && holder !== tid && this.#before.get(holder)?.socket === now.socket) this.#count(true);
    if (before !== undefined && before.socket !== now.socket) this.#count(this.socketAt(before.fd) === before.socket);
  }

  #count(leftAlive: boolean): void {
    if (this.#changes >= changesMax) {
      this.#changes /= 2;
      this.#leftAlive /= 2;
    }
    this.#changes += 1;
    if (leftAlive) this.#leftAlive += 1;
  }

  /** Connections go from thread to thread: where one was last seen says nothing of what it works on now. */
  get #isPool(): boolean {
    return this.#leftAlive > this.#changes * pooledShare;
  }

  /** The descriptor that a thread was last seen on, be it another's now; null where there was none. */
  lastSeenOn(tid: number): number | null {
    return this.#before.get(tid)?.fd ?? null;
  }

  /** Threads that have a connection, of these; a pool's too, which work for one at a time just so. */
  among(threads: readonly number[]): readonly number[] {
    return this.#bindings.size === 0 ? [] : threads.filter((tid) => this.#bindings.has(tid));
  }

  /** True for a thread whose connection is not known yet, in a program where others' are. */
  lacks(tid: number): boolean {
    if (this.#bindings.size === 0 || this.#isPool || this.#bindings.has(tid)) return false;
    return (this.#without.get(tid) ?? 0) < looksMax;
  }

  /** At a stop. `living` are the threads that there are now. */
  of(tid: number, living: readonly number[]): Bound {
    const own = this.#bindings.get(tid);
    // Without one, what others have says nothing: this thread may work for any of them.
    if (own === undefined || this.#isPool || this.socketAt(own.fd) !== own.socket) return unbound;
    const others = living.flatMap((other) => (other === tid ? [] : (this.#bindings.get(other)?.fd ?? [])));
    return { own: own.fd, others: new Set(others.filter((fd) => fd !== own.fd)) };
  }

  #read = (from: Parameters<ProgramView["readMemory"]>[0], bytes: number): Uint8Array =>
    this.view.readMemory(from, bytes);
}

/** As the newest. The oldest goes where there are too many. */
function keep<Key, Value>(map: Map<Key, Value>, key: Key, value: Value): void {
  map.delete(key);
  if (map.size >= threadsMax) map.delete(map.keys().next().value!);
  map.set(key, value);
}

/** The socket that a descriptor is, by its name; null for any other file. */
export function socketOf(pid: number, fd: number): string | null {
  try {
    const link = readlinkSync(`/proc/${pid}/fd/${fd}`);
    return link.startsWith("socket:") ? link : null;
  } catch {
    return null; // Closed since.
  }
}
