// SPDX-License-Identifier: Apache-2.0
/**
 * Whether the threads of a program inside a guest get on with their work, as its /proc tells through the stub. Gets a way to
 * read the guest's files; gives what BusyStretches asks of threads, true of the last look. Stops nothing.
 *
 * What waits for a thread is told by the multiplexer that it waits on (its interest list has the sockets' inodes) and by the
 * kernel's tables of TCP sockets (bytes received and not read; connections not accepted). That a thread gets on is seen where
 * such bytes become fewer or a socket is new. Limits: 256 threads; TCP only; a thread that waits on no multiplexer is never
 * awaited, and only the longer limit applies to it. Source: proc(5).
 */
import { Burning, type BusyScene } from "../busyStretches.ts";
import { interestIn } from "../interestList.ts";
import { parseProcessorNs, parseProcessTicks, parseStatus } from "../processes.ts";
import { type ReadFile, readText } from "./remoteCode.ts";
import { tcpRowsIn } from "./tcpRows.ts";

const threadsMax = 256;
/** A thread that has run for less since the last look has nobody waiting on it for long. */
const closelyNs = 100e6;

/** How often unread bytes became fewer, or a socket was new, since the thread was first looked at closely. */
type Drains = number;
type Close = { readonly unread: ReadonlyMap<string, number>; drains: Drains };

/** What is known of the program's threads. */
export interface KnownThreads {
  threads(): readonly number[];
  descriptorOf(tid: number): number | null;
}

export class RemoteBusy implements BusyScene<Drains> {
  readonly #burning = new Burning();
  readonly #ran = new Map<number, number>();
  readonly #switches = new Map<number, number>();
  readonly #close = new Map<number, Close>();

  constructor(
    private readonly pid: number,
    private readonly known: KnownThreads,
    private readonly readFile: ReadFile,
  ) {}

  /** Reads what the others tell. False where no thread can have burned since the last look. @throws GdbError */
  async refresh(): Promise<boolean> {
    const stat = await readText(this.readFile, `/proc/${this.pid}/stat`);
    if (!this.#burning.since(stat === null ? 0 : parseProcessTicks(stat))) return false;
    const threads = this.threads();
    for (const tid of this.#ran.keys()) if (!threads.includes(tid)) this.#forget(tid);
    const burning: number[] = [];
    for (const tid of threads) if (await this.#readThread(tid)) burning.push(tid);
    if (burning.length > 0) await this.#lookClosely(burning);
    return true;
  }

  threads(): readonly number[] {
    return this.known.threads().slice(0, threadsMax);
  }

  processorNs(tid: number): number | null {
    return this.#ran.get(tid) ?? null;
  }

  switches(tid: number): number | null {
    return this.#switches.get(tid) ?? null;
  }

  isAwaited(tid: number): boolean {
    return [...(this.#close.get(tid)?.unread.values() ?? [])].some((bytes) => bytes > 0);
  }

  mark(tid: number): Drains {
    return this.#close.get(tid)?.drains ?? 0;
  }

  gotOn(tid: number, before: Drains): boolean {
    return this.mark(tid) > before;
  }

  /** True where the thread has run for long since the last look. */
  async #readThread(tid: number): Promise<boolean> {
    const folder = `/proc/${this.pid}/task/${tid}`;
    const [schedule, status] = await Promise.all([
      readText(this.readFile, `${folder}/schedstat`),
      readText(this.readFile, `${folder}/status`),
    ]);
    if (schedule === null || status === null) {
      this.#forget(tid);
      return false;
    }
    const [before, now] = [this.#ran.get(tid), parseProcessorNs(schedule)];
    this.#ran.set(tid, now);
    this.#switches.set(tid, parseStatus(status, this.pid).voluntarySwitches);
    return before !== undefined && now - before >= closelyNs;
  }

  async #lookClosely(burning: readonly number[]): Promise<void> {
    const tables = await Promise.all(
      ["tcp", "tcp6"].map((name) => readText(this.readFile, `/proc/${this.pid}/net/${name}`)),
    );
    const rows = tables.flatMap((table) => tcpRowsIn(table ?? ""));
    const sockets = new Map(rows.map(({ inode, unreadBytes }) => [inode, unreadBytes]));
    for (const tid of burning) {
      const fd = this.known.descriptorOf(tid);
      const list = fd === null ? null : await readText(this.readFile, `/proc/${this.pid}/fdinfo/${fd}`);
      const inodes = list === null ? [] : interestIn(list).map(({ inode }) => inode);
      const watched = inodes.filter((inode) => sockets.has(inode));
      this.#compare(tid, new Map(watched.map((inode) => [inode, sockets.get(inode)!])));
    }
  }

  #compare(tid: number, unread: ReadonlyMap<string, number>): void {
    const before = this.#close.get(tid);
    const fewer = ([inode, bytes]: readonly [string, number]): boolean => {
      const then = before?.unread.get(inode);
      return then === undefined || bytes < then;
    };
    const drained = before !== undefined && [...unread].some(fewer);
    this.#close.set(tid, { unread, drains: (before?.drains ?? 0) + (drained ? 1 : 0) });
  }

  #forget(tid: number): void {
    for (const table of [this.#ran, this.#switches, this.#close]) table.delete(tid);
  }
}
