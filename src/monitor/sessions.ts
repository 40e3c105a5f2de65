// SPDX-License-Identifier: Apache-2.0
/**
 * Gathers the evidence on whose request a stopped thread was working for: every client connection, what the kernel knows
 * of it, and how far the abandoned frames reach its descriptor number. Decides nothing.
 *
 * Limits: 4,096 descriptors are listed, 1,024 connections looked at, those with unread data last.
 */
import { readFileSync, readlinkSync } from "node:fs";
import type { CodeMap } from "#binary/codeMap.ts";
import type { UnwoundFrame } from "#binary/unwindTypes.ts";
import { type ForeignSocket, ForeignSockets } from "#board/native/foreignSockets.ts";
import { explain, NativeError } from "#errors.ts";
import { address, type ProgramView, type SessionEvidence, type VirtualAddress } from "#fault.ts";
import type { Log } from "#log.ts";
import { type Bound, unbound } from "./boundConnections.ts";
import { watchedElsewhere } from "./multiplexers.ts";
import { readDescriptors } from "./processes.ts";
import { reachOf } from "./reach.ts";

const descriptorsMax = 4096;
const connectionsMax = 1024;
const multiplexersMax = 64;
/** Below is never mapped (vm.mmap_min_addr), above is the kernel's. */
const [lowestObject, highestObject] = [65_536, 2 ** 48];

/**
 * A connection, and whether it is another thread's: its multiplexer watches it and not that of the thread that is asked about,
 * or it waits on it alone. `own`: this thread waits on it alone.
 */
export type SeenSocket = ForeignSocket & { readonly elsewhere: boolean; readonly own: boolean };

export type Connections = {
  readonly sockets: readonly SeenSocket[];
  /** True where children of the program may hold its connections too. */
  readonly shared: boolean;
  /** The program's multiplexers where a connection that is cut will live on elsewhere; null: not looked up. */
  readonly multiplexers: readonly number[] | null;
};

export class Sessions implements Disposable {
  readonly #sockets: ForeignSockets | null;

  constructor(
    private readonly view: ProgramView,
    log: Log,
    /** The multiplexer on which a thread waits for work, and those of the others. */
    private readonly multiplexersFor: (tid: number) => {
      readonly own: number | null;
      readonly others: readonly number[];
    },
    /** Connections that threads have to themselves. */
    private readonly boundTo: (tid: number) => Bound = () => unbound,
    /** True where we are about to hold on to a connection that the program lets go of. */
    private readonly keepsCut: () => boolean = () => false,
  ) {
    this.#sockets = openSockets(view.pid, log);
  }

  /** Every connection as the kernel sees it now. */
  sockets(): ForeignSocket[] {
    return this.#connections(this.#descriptors());
  }

  /** At a stop: every connection, and how the stopped thread stands to it. Needs nothing of the thread's registers. */
  look(tid: number): Connections {
    const { pid } = this.view;
    const descriptors = this.#descriptors();
    const shared = descriptors.length > 0 && hasChildren(pid);
    const bound = this.boundTo(tid);
    const elsewhere = watchedElsewhere(pid, this.multiplexersFor(tid));
    return {
      sockets: this.#connections(descriptors).map((socket) => ({
        ...socket,
        elsewhere: elsewhere.has(socket.fd) || bound.others.has(socket.fd),
        own: socket.fd === bound.own,
      })),
      shared,
      multiplexers: shared || this.keepsCut() ? multiplexersOf(pid, descriptors) : null,
    };
  }

  /** Evidence for each connection. `frames` are those of the stopped thread, `spine` the index of its first spine frame. */
  evidence(
    connections: readonly SeenSocket[],
    frames: readonly UnwoundFrame[],
    spine: number | null,
    sp: VirtualAddress,
    map: CodeMap,
  ): SessionEvidence[] {
    if (connections.length === 0) return [];
    const work = frames.slice(0, (spine ?? frames.length - 1) + 1);
    const stackTo = work.at(-2)?.cfa ?? address(sp + 4096n);
    const query = {
      registers: work.flatMap((frame) => frame.registers.filter((value) => value !== null)),
      stackFrom: sp,
      stackTo,
      read: (from: VirtualAddress, bytes: number) => this.view.readMemory(from, bytes),
      isObject: (at: number) => mayHoldObjects(at, map) && !(at >= Number(sp) && at < Number(stackTo)),
    };
    const { reach, commonness } = reachOf(
      connections.map(({ fd }) => fd),
      query,
    );
    return connections.map((socket) => ({
      fd: socket.fd,
      peer: socket.peer,
      unreadBytes: socket.unreadBytes,
      lastReceivedMs: socket.tcp?.lastReceivedMs ?? null,
      lastSentMs: socket.tcp?.lastSentMs ?? null,
      neverAnswered: socket.tcp !== null && socket.tcp.bytesSent === 0n && socket.tcp.bytesReceived > 0n,
      balance: socket.tcp?.balance ?? null,
      elsewhere: socket.elsewhere,
      own: socket.own,
      reach: reach.get(socket.fd)!,
      commonness: commonness.get(socket.fd)!,
    }));
  }

  [Symbol.dispose](): void {
    this.#sockets?.[Symbol.dispose]();
  }

  #descriptors(): number[] {
    return this.#sockets === null ? [] : readDescriptors(this.view.pid).slice(0, descriptorsMax);
  }

  #connections(descriptors: readonly number[]): ForeignSocket[] {
    const sockets = this.#sockets;
    if (sockets === null) return [];
    const found: ForeignSocket[] = [];
    for (const fd of descriptors) {
      const socket = sockets.look(fd);
      if (socket !== null) found.push(socket);
    }
    if (found.length <= connectionsMax) return found;
    return found.sort((a, b) => a.unreadBytes - b.unreadBytes).slice(0, connectionsMax);
  }
}

/** Heaps grow while nobody looks: memory that was not there when the mappings were read is tried. */
function mayHoldObjects(at: number, map: CodeMap): boolean {
  return map.isMapped(at) ? map.isWritable(at) : at >= lowestObject && at < highestObject;
}

function openSockets(pid: number, log: Log): ForeignSockets | null {
  try {
    return new ForeignSockets(pid);
  } catch (error) {
    if (!(error instanceof NativeError)) throw error;
    // Without it nobody is ever blamed, and every outcome says that the session is not known.
    log("warn", "sessions.unavailable", { why: explain(error) });
    return null;
  }
}

const multiplexersOf = (pid: number, descriptors: readonly number[]): number[] =>
  descriptors.filter((fd) => linkOf(pid, fd) === "anon_inode:[eventpoll]").slice(0, multiplexersMax);

function hasChildren(pid: number): boolean {
  try {
    return readFileSync(`/proc/${pid}/task/${pid}/children`, "latin1").trim() !== "";
  } catch {
    return true; // A kernel that does not tell: the careful way works in both cases.
  }
}

function linkOf(pid: number, fd: number): string {
  try {
    return readlinkSync(`/proc/${pid}/fd/${fd}`);
  } catch {
    return ""; // Closed since.
  }
}
