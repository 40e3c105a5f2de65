// SPDX-License-Identifier: Apache-2.0
/**
 * Whether a program got on with its work since one of its threads stopped at a fault, as its connections show it. Gets the
 * connections at the stop and now; gives how many were answered anew, and how many wait in vain.
 *
 * Answered anew: it has received and was sent something since, or is new and was sent something. A loop that only sends,
 * over and over, is no progress. Waits in vain: has received something since, or shortly before, that nobody reads. TCP
 * only: the kernel does not count for unix sockets. Limit: the last 64 threads that stopped.
 */
import type { ForeignSocket } from "#board/native/foreignSockets.ts";
import type { Clock } from "#clock.ts";

const threadsMax = 64;
/** A server that answers nobody for so long while requests wait is taken for one that serves no more. */
const unservedMs = 1500;
const unservedLookMs = 25;

/** What was unread for longer than that at the stop has not been waited for since: the program does not want it. */
const freshMs = 1000;

type Counts = { readonly received: bigint; readonly sent: bigint; readonly fresh: boolean };

export class Progress {
  readonly #atStop = new Map<number, ReadonlyMap<string, Counts>>();

  /** Takes the connections of a program at a stop of this thread. */
  note(tid: number, sockets: readonly ForeignSocket[]): void {
    this.#atStop.delete(tid);
    if (this.#atStop.size >= threadsMax) this.#atStop.delete(this.#atStop.keys().next().value!);
    const counts = new Map<string, Counts>();
    for (const socket of sockets) {
      if (socket.tcp === null) continue;
      const { bytesReceived: received, bytesSent: sent, lastReceivedMs } = socket.tcp;
      counts.set(nameOf(socket), { received, sent, fresh: lastReceivedMs < freshMs });
    }
    this.#atStop.set(tid, counts);
  }

  /** Connections answered anew since the last stop of this thread; null where it never stopped. */
  answeredAnew(tid: number, sockets: readonly ForeignSocket[]): number | null {
    return this.#count(tid, sockets, ({ tcp }, before) => {
      return tcp.bytesSent > before.sent && tcp.bytesReceived > before.received;
    });
  }

  /** Connections on which something has come since the last stop of this thread, or just before it, that was not read. */
  waiting(tid: number, sockets: readonly ForeignSocket[]): number {
    return (
      this.#count(tid, sockets, (socket, before) => {
        return socket.unreadBytes > 0 && (before.fresh || socket.tcp.bytesReceived > before.received);
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
    holds: (socket: ForeignSocket & { tcp: NonNullable<ForeignSocket["tcp"]> }, before: Counts) => boolean,
  ): number | null {
    const atStop = this.#atStop.get(tid);
    if (atStop === undefined) return null;
    return sockets.filter((socket) => {
      const { tcp } = socket;
      return tcp !== null && holds({ ...socket, tcp }, atStop.get(nameOf(socket)) ?? none);
    }).length;
  }
}

const sentBytes = (sockets: readonly ForeignSocket[]): bigint =>
  sockets.reduce((sum, { tcp }) => sum + (tcp?.bytesSent ?? 0n), 0n);

const none: Counts = { received: 0n, sent: 0n, fresh: true };
const nameOf = ({ fd, peer }: ForeignSocket): string => `${fd} ${peer}`;
