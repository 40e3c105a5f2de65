// SPDX-License-Identifier: Apache-2.0
/**
 * Gathers the evidence on whose request a stopped thread was working for: every client connection, what the kernel knows
 * of it, and how far the abandoned frames reach its descriptor number. Decides nothing.
 *
 * Limits: 4,096 descriptors are listed, 1,024 connections looked at, those with unread data last.
 */
import { readFileSync, readlinkSync } from "node:fs";
import { type ForeignSocket, ForeignSockets } from "#board/native/foreignSockets.ts";
import { explain, NativeError } from "#errors.ts";
import type { ProgramView, SessionEvidence } from "#fault.ts";
import type { Log } from "#log.ts";
import { type Bound, unbound } from "./boundConnections.ts";
import { type Connections, evidenceOf, type SeenSocket, seenWith, type WorkReached } from "./connectionEvidence.ts";
import { watchedElsewhere } from "./multiplexers.ts";
import { readDescriptors } from "./processes.ts";

const descriptorsMax = 4096;
const connectionsMax = 1024;
const multiplexersMax = 64;

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
      sockets: seenWith(this.#connections(descriptors), elsewhere, bound),
      shared,
      multiplexers: shared || this.keepsCut() ? multiplexersOf(pid, descriptors) : null,
    };
  }

  /** Evidence for each connection. `frames` are those of the stopped thread, `spine` the index of its first spine frame. */
  evidence(connections: readonly SeenSocket[], work: WorkReached): SessionEvidence[] {
    return evidenceOf(connections, work, (from, bytes) => this.view.readMemory(from, bytes));
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
