// SPDX-License-Identifier: Apache-2.0
/**
 * Whether a program got on with its work since one of its threads stopped at a fault, as its connections show it. Gets the
 * connections at the stop and now; gives from how many it has read anew, and how many wait in vain.
 *
 * Read anew: it was accepted since, or bytes of it were read since. A loop that only sends, over and over, is no progress.
 * Waits in vain: has received something since, or shortly before, that nobody reads. Bytes are counted for TCP only: the
 * kernel does not count for unix sockets. Limit: the last 64 threads that stopped.
 */
import type { ForeignSocket } from "#board/native/foreignSockets.ts";
import type { Clock } from "#clock.ts";

const threadsMax = 64;
/** A server that answers nobody for so long while requests wait is taken for one that serves no more. */
const unservedMs = 1500;
const unservedLookMs = 25;

/** What was unread for longer than that at the stop has not been waited for since: the program does not want it. */
const freshMs = 1000;

type Counts = { readonly received: bigint; readonly unread: number; readonly fresh: boolean };

export class Progress {
  readonly #atStop = new Map<number, ReadonlyMap<string, Counts>>();

  /** Takes the connections of a program at a stop of this thread. */
  note(tid: number, sockets: readonly ForeignSocket[]): void {
    this.#atStop.delete(tid);
    if (this.#atStop.size >= threadsMax) this.#atStop.delete(this.#atStop.keys().next().value!);
    const counts = new Map<string, Counts>();
    for (const socket of sockets) {
      const { unreadBytes: unread, tcp } = socket;
      counts.set(nameOf(socket), {
        received: tcp?.bytesReceived ?? 0n,
        unread,
        fresh: tcp !== null && tcp.lastReceivedMs < freshMs,
      });
    }
    this.#atStop.set(tid, counts);
  }

  /** Connections read from since the last stop of this thread, new ones included; null where it never stopped. */
  readAnew(tid: number, sockets: readonly ForeignSocket[]): number | null {
    return this.#count(tid, sockets, ({ tcp, unreadBytes }, before) => {
      if (before === null) return true;
      return tcp !== null && tcp.bytesReceived - before.received + BigInt(before.unread - unreadBytes) > 0n;
    });
  }

  /** Connections on which something has come since the last stop of this thread, or just before it, that was not read. */
  waiting(tid: number, sockets: readonly ForeignSocket[]): number {
    return (
      this.#count(tid, sockets, ({ tcp, unreadBytes }, before) => {
        if (tcp === null || unreadBytes === 0) return false;
        return before === null || before.fresh || tcp.bytesReceived > before.received;
      }) ?? 0
    );
  }

  /**
   * Looks for `unservedMs` whether anybody is answered while requests wait that have come since the last stop of this
   * thread. Gives what is wrong in words; null as soon as an answer goes out or nobody waits.
   */
  async unserved(
    tid: number,
    look: () => readonly ForeignSocket[],
    clock: Clock,
    signal: AbortSignal,
  ): Promise<string | null> {
    const endNs = clock.monotonicNs() + unservedMs * 1e6;
    const sentAtFirst = sentBytes(look());
    for (;;) {
      const sockets = look();
      const waiting = this.waiting(tid, sockets);
      if (waiting === 0 || sentBytes(sockets) !== sentAtFirst) return null;
      if (clock.monotonicNs() >= endNs) {
        return `${waiting} request${waiting === 1 ? " waits" : "s wait"} unread and nobody was answered for ${unservedMs} ms`;
      }
      await clock.sleep(unservedLookMs, signal);
    }
  }

  #count(
    tid: number,
    sockets: readonly ForeignSocket[],
    holds: (socket: ForeignSocket, before: Counts | null) => boolean,
  ): number | null {
    const atStop = this.#atStop.get(tid);
    if (atStop === undefined) return null;
    return sockets.filter((socket) => holds(socket, atStop.get(nameOf(socket)) ?? null)).length;
  }
}

const sentBytes = (sockets: readonly ForeignSocket[]): bigint =>
  sockets.reduce((sum, { tcp }) => sum + (tcp?.bytesSent ?? 0n), 0n);

const nameOf = ({ fd, peer }: ForeignSocket): string => `${fd} ${peer}`;
