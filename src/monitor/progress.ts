// SPDX-License-Identifier: Apache-2.0
/**
 * Whether a program got on with its work since one of its threads stopped at a fault, as its connections show it. Gets the
 * connections at the stop and now; gives from how many it has read anew, and how many wait in vain.
 *
 * Read anew: it was accepted since, or bytes of it were read since. A loop that only sends, over and over, is no progress.
 * Waits in vain: what it has received since, or shortly before, stays unread. Bytes are counted for TCP only: the kernel
 * does not count for unix sockets. So does what was read and stays unanswered where its connection was answered before
 * (muteConnections.ts), and so do all who were answered one after the other until the stop, and of whom nobody has been since
 * (silencedClients.ts). Threads that wait for one lock all the time are counted too, and those that have a connection and do
 * not move at all. Limit: the last 64 threads that stopped.
 */
import type { ForeignSocket } from "#board/native/foreignSockets.ts";
import type { Clock } from "#clock.ts";
import type { HeldUp } from "./boundWaits.ts";
import { mutesAmong, restOf } from "./muteConnections.ts";
import { type Flow, flowOf, silencedAmong } from "./silencedClients.ts";

const threadsMax = 64;
/** Whoever waits for so long without anything being done for him waits in vain. */
const unservedMs = 1500;
const unservedLookMs = 25;

/** What was unread for longer than that at the stop has not been waited for since: the program does not want it. */
const freshMs = 1000;

/** A server that has let requests wait for so long before its fault is slow, and may do so afterwards. */
const slowMs = 250;

/** So many threads held up are no accident. */
const heldUpMin = 2;

/** What is looked at. `lockWaits`: each wait for a lock has a name of its own for as long as it lasts. */
export type Waits = {
  readonly sockets: readonly ForeignSocket[];
  readonly lockWaits: readonly string[];
  /** Of threads with connections of their own; absent where there are none. */
  readonly heldUp?: HeldUp;
};
/**
 * Whose waiting says nothing: the blamed session's, and that of so many others. Work that was given up without its session
 * being known, and cut, may have left that one with nobody to read from it.
 */
export type Excused = {
  readonly peer: string | null;
  readonly others: number;
  /** Requests that were read and not answered are excused, too: it may be their nature. */
  readonly unanswered?: true;
};

type Counts = { readonly received: bigint; readonly unread: number; readonly fresh: boolean };
/** Connections at a stop. `slow`: requests had been waiting for long. */
type AtStop = { readonly counts: ReadonlyMap<string, Counts>; readonly slow: boolean; readonly flow: Flow };
const nothingKnown: AtStop = { counts: new Map(), slow: false, flow: new Map() };

export class Progress {
  readonly #stops = new Map<number, AtStop>();
  /** At the first stop since nobody waited in vain: later ones of a storm do not show what is usual. */
  #rest: ReturnType<typeof restOf> | null = null;

  /** Takes the connections of a program at a stop of this thread. */
  note(tid: number, sockets: readonly ForeignSocket[]): void {
    this.#rest ??= restOf(sockets, nameOf);
    this.#stops.delete(tid);
    if (this.#stops.size >= threadsMax) this.#stops.delete(this.#stops.keys().next().value!);
    const counts = new Map<string, Counts>();
    for (const socket of sockets) {
      const { unreadBytes: unread, tcp } = socket;
      counts.set(nameOf(socket), {
        received: tcp?.bytesReceived ?? 0n,
        unread,
        fresh: tcp !== null && tcp.lastReceivedMs < freshMs,
      });
    }
    const slow = sockets.some(({ unreadBytes, tcp }) => unreadBytes > 0 && (tcp?.lastReceivedMs ?? 0) > slowMs);
    this.#stops.set(tid, { counts, slow, flow: flowOf(sockets, nameOf) });
  }

  /** Connections read from since the last stop of this thread, new ones included; null where it never stopped. */
  readAnew(tid: number, sockets: readonly ForeignSocket[]): number | null {
    return this.#count(tid, sockets, ({ tcp, unreadBytes }, before) => {
      if (before === null) return true;
      return tcp !== null && tcp.bytesReceived - before.received + BigInt(before.unread - unreadBytes) > 0n;
    });
  }

  /** Names of connections on which something has come since the last stop of this thread, or just before it, unread. */
  waiting(tid: number, sockets: readonly ForeignSocket[]): string[] {
    const atStop = this.#stops.get(tid)?.counts;
    if (atStop === undefined) return [];
    const waits = sockets.filter((socket) => {
      const before = atStop.get(nameOf(socket));
      if (socket.tcp === null || socket.unreadBytes === 0) return false;
      return before === undefined || before.fresh || socket.tcp.bytesReceived > before.received;
    });
    return waits.map(nameOf);
  }

  /**
   * Looks for up to `unservedMs` whether anybody waits in vain since the last stop of this thread: all, because nobody is
   * answered; some, because nobody reads what they have sent; threads, because nobody releases a lock. Gives what is wrong
   * in words; null as soon as nobody does. `slowness`: how many times as long as usual everything takes.
   */
  async unserved(
    tid: number,
    excused: Excused,
    look: () => Waits | Promise<Waits>,
    clock: Clock,
    signal: AbortSignal,
    slowness = 1,
  ): Promise<string | null> {
    const patienceMs = Math.round(unservedMs * slowness);
    const endNs = clock.monotonicNs() + patienceMs * 1e6;
    const first = await look();
    let starving = this.waiting(tid, first.sockets);
    let stuck = first.lockWaits;
    let held = first.heldUp?.waits ?? [];
    let mute = mutesAmong(first.sockets, this.#rest ?? new Map(), nameOf);
    let [unanswered, isQuiet] = [true, true];
    const isBlamed = (name: string): boolean => excused.peer !== null && name.endsWith(` ${excused.peer}`);
    for (;;) {
      const { sockets, lockWaits, heldUp } = await look();
      const { slow, flow } = this.#stops.get(tid) ?? nothingKnown;
      const waiting = this.waiting(tid, sockets);
      starving = starving.filter((name) => waiting.includes(name) && !isServed(name, first.sockets, sockets));
      stuck = stuck.filter((name) => lockWaits.includes(name));
      held = held.filter((name) => heldUp?.waits.includes(name));
      // Where most that have work get on with it, the others' work takes long.
      const areHeldUp = held.length >= heldUpMin && held.length * 2 > (heldUp?.working ?? 0);
      isQuiet &&= sentBytes(sockets) === sentBytes(first.sockets);
      unanswered &&= waiting.length > 0 && isQuiet;
      const silenced = isQuiet ? silencedAmong(sockets, flow, nameOf).filter((name) => !isBlamed(name)) : [];
      const isSilenced = silenced.length > excused.others;
      const neglected = starving.filter((name) => !isBlamed(name));
      const isNeglected = !slow && neglected.length > excused.others;
      const still = new Set(mutesAmong(sockets, this.#rest ?? new Map(), nameOf));
      mute = mute.filter((name) => still.has(name) && !isBlamed(name));
      const isMute = excused.unanswered !== true && !slow && mute.length > excused.others;
      if (!unanswered && !isNeglected && !isMute && !isSilenced && !areHeldUp && stuck.length === 0) {
        this.#rest = null;
        return null;
      }
      if (clock.monotonicNs() >= endNs) {
        const unread = unanswered ? waiting.length : 0;
        const lacking = isNeglected ? neglected.length : 0;
        const silent = isMute ? mute.length : isSilenced && !unanswered ? silenced.length : 0;
        const time = `for ${patienceMs} ms`;
        return inWords(time, unread, lacking, stuck.length, silent, areHeldUp ? held.length : 0);
      }
      await clock.sleep(unservedLookMs * slowness, signal);
    }
  }

  #count(
    tid: number,
    sockets: readonly ForeignSocket[],
    holds: (socket: ForeignSocket, before: Counts | null) => boolean,
  ): number | null {
    const atStop = this.#stops.get(tid)?.counts;
    if (atStop === undefined) return null;
    return sockets.filter((socket) => holds(socket, atStop.get(nameOf(socket)) ?? null)).length;
  }
}

function inWords(
  time: string,
  unanswered: number,
  neglected: number,
  stuck: number,
  mute: number,
  heldUp: number,
): string {
  if (heldUp > 0) return `${heldUp} threads with a request each have not moved ${time}`;
  if (mute > 0) return `${mute} requests were read and not answered ${time}`;
  if (unanswered > 0)
    return `${unanswered} request${unanswered === 1 ? " waits" : "s wait"} unread and nobody was answered ${time}`;
  if (stuck > 0) return `${stuck} thread${stuck === 1 ? " waits" : "s wait"} for a lock that nobody released ${time}`;
  return `${neglected} request${neglected === 1 ? " waits" : "s wait"} unread ${time} while others are served`;
}

/** Whether anything of a connection was read between two looks. */
function isServed(name: string, before: readonly ForeignSocket[], after: readonly ForeignSocket[]): boolean {
  const [was, is] = [before, after].map((sockets) => sockets.find((socket) => nameOf(socket) === name));
  if (was?.tcp == null || is?.tcp == null) return true;
  return is.tcp.bytesReceived - was.tcp.bytesReceived + BigInt(was.unreadBytes - is.unreadBytes) > 0n;
}

const sentBytes = (sockets: readonly ForeignSocket[]): bigint =>
  sockets.reduce((sum, { tcp }) => sum + (tcp?.bytesSent ?? 0n), 0n);

const nameOf = ({ fd, peer }: ForeignSocket): string => `${fd} ${peer}`;
