// SPDX-License-Identifier: Apache-2.0
/**
 * Whether a thread gets on with its work, as seen from outside: its processor time, its own waits, the connections that it
 * serves, and whether anything waits for it where it waits for work. Gets a program's watch parts; stops nothing.
 *
 * Which connections are a thread's is told by the multiplexer that it waits on (`/proc/PID/fdinfo`); a thread that waits on
 * one descriptor has that one; of any other kind all are taken where no other thread waits on descriptors. Source: proc(5).
 * Limits: 1,024 descriptors of one multiplexer. TCP only where answers are counted: the kernel does not count for others.
 */
import { ForeignDescriptors } from "#board/native/foreignDescriptors.ts";
import type { ForeignSocket } from "#board/native/foreignSockets.ts";
import { explain, NativeError } from "#errors.ts";
import type { Log } from "#log.ts";
import { Burning, type BusyScene } from "./busyStretches.ts";
import { readInterest } from "./interestList.ts";
import { readProcessorNs, readProcessTicks, readStatus, readThreads } from "./processes.ts";
import type { Spines } from "./spines.ts";

const descriptorsMax = 1024;

/** Bytes received and sent by each connection. */
export type Traffic = ReadonlyMap<string, readonly [received: bigint, sent: bigint]>;

export class ThreadProgress implements BusyScene<Traffic>, Disposable {
  readonly #descriptors: ForeignDescriptors | null;
  readonly #burning = new Burning();

  constructor(
    private readonly pid: number,
    private readonly spines: Spines,
    private readonly sockets: () => readonly ForeignSocket[],
    log: Log,
  ) {
    this.#descriptors = openDescriptors(pid, log);
  }

  /** False where no thread can have burned since the last look. */
  refresh(): boolean {
    return this.#burning.since(readProcessTicks(this.pid) ?? 0);
  }

  threads(): readonly number[] {
    return readThreads(this.pid);
  }

  processorNs(tid: number): number | null {
    return readProcessorNs(this.pid, tid);
  }

  switches(tid: number): number | null {
    return readStatus(this.pid, tid)?.voluntarySwitches ?? null;
  }

  /** Something is ready where the thread waits for work. */
  isAwaited(tid: number): boolean {
    const fd = this.spines.descriptorOf(tid);
    if (fd !== null) return this.#descriptors?.isReadable(fd) === true;
    return this.#isOnlyServer(tid) && this.sockets().some(({ unreadBytes }) => unreadBytes > 0);
  }

  mark(tid: number): Traffic {
    return new Map(this.#socketsOf(tid).map((socket) => [nameOf(socket), countsOf(socket)]));
  }

  /** Some connection of the thread has received and was sent something since, or is new and was answered. */
  gotOn(tid: number, before: Traffic): boolean {
    return this.#socketsOf(tid).some((socket) => {
      const [receivedThen, sentThen] = before.get(nameOf(socket)) ?? [0n, 0n];
      const [received, sent] = countsOf(socket);
      return received > receivedThen && sent > sentThen;
    });
  }

  [Symbol.dispose](): void {
    this.#descriptors?.[Symbol.dispose]();
  }

  #socketsOf(tid: number): readonly ForeignSocket[] {
    const fd = this.spines.descriptorOf(tid);
    const all = (): readonly ForeignSocket[] => this.sockets().filter(({ tcp }) => tcp !== null);
    if (fd === null) return this.#isOnlyServer(tid) ? all() : [];
    const watched = readInterest(this.pid, fd) ?? [];
    const own = new Set(watched.length > 0 ? watched.slice(0, descriptorsMax).map((each) => each.fd) : [fd]);
    return all().filter((socket) => own.has(socket.fd));
  }

  #isOnlyServer(tid: number): boolean {
    return !readThreads(this.pid).some((other) => other !== tid && this.spines.waitsOnDescriptors(other));
  }
}

function openDescriptors(pid: number, log: Log): ForeignDescriptors | null {
  try {
    return new ForeignDescriptors(pid);
  } catch (error) {
    if (!(error instanceof NativeError)) throw error;
    // Nothing is then ever seen to wait, and only the longer limit for a hang applies.
    log("warn", "descriptors.unavailable", { why: explain(error) });
    return null;
  }
}

const nameOf = ({ fd, peer }: ForeignSocket): string => `${fd} ${peer}`;
const countsOf = ({ tcp }: ForeignSocket): readonly [bigint, bigint] => [
  tcp?.bytesReceived ?? 0n,
  tcp?.bytesSent ?? 0n,
];
