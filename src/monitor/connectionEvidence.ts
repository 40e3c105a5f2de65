// SPDX-License-Identifier: Apache-2.0
/**
 * What memory tells of whose request a stopped thread works for: how far its abandoned frames reach the descriptor number of
 * each connection. Gets connections as the kernel sees them, frames, a memory reader; gives evidence. Decides nothing. Pure
 * but for the reader.
 */
import type { CodeMap } from "#binary/codeMap.ts";
import type { UnwoundFrame } from "#binary/unwindTypes.ts";
import type { ForeignSocket } from "#board/native/foreignSockets.ts";
import { address, type SessionEvidence, type VirtualAddress } from "#fault.ts";
import type { Bound } from "./boundConnections.ts";
import { type ReachLimits, reachLimits, reachOf } from "./reach.ts";

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

/** `elsewhere`: what the multiplexers of other threads watch alone. */
export const seenWith = (
  sockets: readonly ForeignSocket[],
  elsewhere: ReadonlySet<number>,
  bound: Bound,
): SeenSocket[] =>
  sockets.map((socket) => ({
    ...socket,
    elsewhere: elsewhere.has(socket.fd) || bound.others.has(socket.fd),
    own: socket.fd === bound.own,
  }));

/** The work of a stopped thread. */
export type WorkReached = {
  readonly frames: readonly UnwoundFrame[];
  /** Index of the first spine frame among them; null where it is not known. */
  readonly spine: number | null;
  readonly sp: VirtualAddress;
  readonly map: CodeMap;
};

/** Evidence for each connection, in their order. */
export function evidenceOf(
  connections: readonly SeenSocket[],
  { frames, spine, sp, map }: WorkReached,
  read: (from: VirtualAddress, lengthBytes: number) => Uint8Array,
  limits: ReachLimits = reachLimits,
): SessionEvidence[] {
  if (connections.length === 0) return [];
  const work = frames.slice(0, (spine ?? frames.length - 1) + 1);
  const stackTo = work.at(-2)?.cfa ?? address(sp + 4096n);
  const query = {
    registers: work.flatMap((frame) => frame.registers.filter((value) => value !== null)),
    stackFrom: sp,
    stackTo,
    read,
    isObject: (at: number) => mayHoldObjects(at, map) && !(at >= Number(sp) && at < Number(stackTo)),
    limits,
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

/** Heaps grow while nobody looks: memory that was not there when the mappings were read is tried. */
function mayHoldObjects(at: number, map: CodeMap): boolean {
  return map.isMapped(at) ? map.isWritable(at) : at >= lowestObject && at < highestObject;
}
