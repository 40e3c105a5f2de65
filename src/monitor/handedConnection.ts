// SPDX-License-Identifier: Apache-2.0
/**
 * Whether a process is there for one connection: its parent listens, has accepted it, keeps no part in it, and the process
 * itself takes in no other. So are PostgreSQL's backends and the children of sshd or vsftpd; a worker of nginx is not.
 *
 * Gets a process, once its code is known; gives that connection's descriptor and the address of the C library's `exit`.
 * Found in the first moments, when both have closed what is the other's, and looked at again at each fault: a worker that is
 * passed connections one after the other may have had but one. Limit: 256 descriptors of the process and of its parent: who
 * holds more serves many.
 */
import type { CodeMap } from "#binary/codeMap.ts";
import { ForeignSockets } from "#board/native/foreignSockets.ts";
import type { Clock } from "#clock.ts";
import { NativeError } from "#errors.ts";
import type { VirtualAddress } from "#fault.ts";
import { type Bound, socketOf } from "./boundConnections.ts";
import { functionAt } from "./injectedFunctions.ts";
import { readDescriptors, readParent } from "./processes.ts";

const descriptorsMax = 256;
const youngMs = 5000;

type Handed = { readonly fd: number; readonly socket: string };

export class HandedConnection {
  #handed: Handed | null = null;
  #exitAt: VirtualAddress | null = null;
  #youngUntilNs = Number.POSITIVE_INFINITY;

  constructor(
    private readonly pid: number,
    private readonly clock: Clock,
  ) {}

  look(map: CodeMap): void {
    const nowNs = this.clock.monotonicNs();
    this.#youngUntilNs = Math.min(this.#youngUntilNs, nowNs + youngMs * 1e6);
    const before = this.#handed;
    if (before === null && nowNs > this.#youngUntilNs) return;
    const now = findHanded(this.pid);
    this.#handed = before === null || now?.socket === before.socket ? now : null;
    this.#exitAt = this.#handed === null ? null : functionAt(map, "exit");
  }

  /** What the whole process works for; null where it is not of this kind, or not any more. */
  get bound(): Bound | null {
    return this.#handed === null ? null : { own: this.#handed.fd, others: new Set() };
  }

  /** Where the process leaves in order; null where it is not of this kind, or not any more. */
  get leaveAt(): VirtualAddress | null {
    return this.#exitAt;
  }
}

/** True where the process is of this kind now. */
export const servesOne = (pid: number): boolean => findHanded(pid) !== null;

function findHanded(pid: number): Handed | null {
  const parent = readParent(pid);
  if (parent === null || parent <= 1) return null;
  try {
    using own = new ForeignSockets(pid);
    const doors = doorsOf(pid, own);
    if (doors.some(({ listens }) => listens)) return null;
    using parents = new ForeignSockets(parent);
    const parentDoors = doorsOf(parent, parents);
    const open = new Set(parentDoors.filter(({ listens }) => listens).map(({ at }) => at));
    const kept = new Set(parentDoors.map(({ socket }) => socket));
    const accepted = doors.filter(({ at }) => open.has(at));
    const [first] = accepted;
    // Services of inetd's kind have it as standard input and output, too.
    const isOne = new Set(accepted.map(({ socket }) => socket)).size === 1;
    return first === undefined || !isOne || kept.has(first.socket) ? null : first;
  } catch (error) {
    if (error instanceof NativeError) return null; // One of the two is gone, or may not be looked at.
    throw error;
  }
}

type Door = Handed & { readonly at: string; readonly listens: boolean };

function doorsOf(pid: number, sockets: ForeignSockets): Door[] {
  const descriptors = readDescriptors(pid);
  if (descriptors.length > descriptorsMax) return [];
  return descriptors.flatMap((fd) => {
    const socket = socketOf(pid, fd);
    const door = socket === null ? null : sockets.door(fd);
    return door === null ? [] : [{ fd, socket: socket!, ...door }];
  });
}
