// SPDX-License-Identifier: Apache-2.0
/**
 * The client connections of a program inside a guest, as its /proc tells through the stub, and as its kit lists them. Gets a
 * stopped thread; gives what sessions.ts gives of a program beside us. Stops nothing.
 *
 * When a connection was last heard and answered is told by the list alone: without it memory decides (connectionEvidence.ts).
 *
 * Limits: 1,024 descriptors, 32 multiplexers; TCP only, as clients of a guest come by its network. Source: proc(5).
 */
import type { ForeignSocket } from "#board/native/foreignSockets.ts";
import type { Clock } from "#clock.ts";
import type { Architecture, VirtualAddress } from "#fault.ts";
import { BoundConnections } from "../boundConnections.ts";
import type { Connections } from "../connectionEvidence.ts";
import { interestIn } from "../interestList.ts";
import { type BlockedThread, tableSizeIn } from "../processes.ts";
import { type Excused, Progress, type Waits } from "../progress.ts";
import { polledDescriptor, waitedDescriptor } from "../waits.ts";
import { type ReadFile, readText } from "./remoteCode.ts";
import { type ReadPages, RemoteView } from "./remoteView.ts";
import { connectionsIn, type TcpRow, tcpRowsIn } from "./tcpRows.ts";

const descriptorsMax = 1_024;
const multiplexersMax = 32;

export type RemoteSessionsParts = {
  readonly pid: number;
  readonly architecture: Architecture;
  readonly clock: Clock;
  readonly readFile: ReadFile;
  readonly readLinks: (paths: readonly string[]) => Promise<(string | null)[]>;
  readonly readPages: ReadPages;
  /** What ss says of the guest's connections; null where it cannot be asked. */
  readonly listConnections: () => Promise<string | null>;
  readonly threads: () => readonly number[];
  readonly multiplexersFor: (tid: number) => { readonly own: number | null; readonly others: readonly number[] };
};

export class RemoteSessions {
  readonly #bound: BoundConnections;
  readonly #progress = new Progress();
  /** What polling threads poll. */
  readonly #polled: RemoteView;
  /** What each descriptor was when it was looked at last. */
  #links: Map<number, string> = new Map();

  constructor(private readonly parts: RemoteSessionsParts) {
    const { pid, architecture, readPages } = parts;
    this.#polled = new RemoteView(pid, architecture, readPages);
    const socketAt = (fd: number): string | null => {
      const link = this.#links.get(fd);
      return link?.startsWith("socket:") === true ? link : null;
    };
    this.#bound = new BoundConnections(this.#polled, socketAt);
  }

  /** The thread was seen blocked there, waiting for work. @throws GdbError */
  async note(tid: number, blocked: BlockedThread): Promise<void> {
    const { architecture } = this.parts;
    const view = this.#polled;
    view.forget();
    const polled = await view.settle(() =>
      polledDescriptor(blocked, architecture, (from: VirtualAddress, bytes: number) => view.readMemory(from, bytes)),
    );
    const fd = waitedDescriptor(blocked, architecture) ?? polled;
    if (fd !== null) for (const [each, link] of await this.#readLinks([fd])) this.#links.set(each, link);
    this.#bound.note(tid, blocked);
  }

  /** At a stop: every connection, and how the stopped thread stands to it. @throws GdbError */
  async look(tid: number): Promise<Connections> {
    const { pid, readFile, threads, multiplexersFor } = this.parts;
    const read = (name: string): Promise<string | null> => readText(readFile, `/proc/${pid}/${name}`);
    const { own, others } = multiplexersFor(tid);
    const watching = own === null ? [] : others.slice(0, multiplexersMax);
    const [links, known, children, mine, ...theirs] = await Promise.all([
      this.#readTable(),
      this.#readRows(),
      read(`task/${pid}/children`),
      watching.length === 0 ? null : read(`fdinfo/${own}`),
      ...watching.map((other) => read(`fdinfo/${other}`)),
    ]);
    this.#links = links;
    const elsewhere = watchedBy(theirs);
    for (const fd of watchedBy([mine])) elsewhere.delete(fd);
    const bound = this.#bound.of(tid, threads());
    // A kernel that does not tell of children: the careful way works in both cases.
    const shared = children === null || children.trim() !== "";
    const sockets = socketsAmong(links, known).map((socket) => ({
      ...socket,
      elsewhere: elsewhere.has(socket.fd) || bound.others.has(socket.fd),
      own: socket.fd === bound.own,
    }));
    this.#progress.note(tid, sockets);
    return { sockets, shared, multiplexers: shared ? multiplexersIn(links) : null };
  }

  /**
   * What is wrong where requests wait in vain since the last stop of this thread; null where they do not. Without a list it is
   * not known how much each connection was sent: that is left to the configured probes. @throws GdbError
   */
  async unserved(tid: number, excused: Excused, slowness: number, signal: AbortSignal): Promise<string | null> {
    if ((await this.#listed()) === null) return null;
    const look = async (): Promise<Waits> => ({ sockets: (await this.#listed()) ?? [], lockWaits: [] });
    return await this.#progress.unserved(tid, excused, look, this.parts.clock, signal, slowness);
  }

  /** Every connection now; null where nobody lists them. */
  async #listed(): Promise<readonly ForeignSocket[] | null> {
    const list = await this.parts.listConnections();
    return list === null ? null : socketsAmong(await this.#readTable(), connectionsIn(list));
  }

  async #readRows(): Promise<readonly TcpRow[]> {
    const { pid, readFile, listConnections } = this.parts;
    const list = await listConnections();
    if (list !== null) return connectionsIn(list);
    const tables = ["tcp", "tcp6"].map((name) => readText(readFile, `/proc/${pid}/net/${name}`));
    return (await Promise.all(tables)).flatMap((table) => tcpRowsIn(table ?? ""));
  }

  async #readTable(): Promise<Map<number, string>> {
    const { pid, readFile } = this.parts;
    const status = await readText(readFile, `/proc/${pid}/status`);
    const size = Math.min(status === null ? 0 : tableSizeIn(status), descriptorsMax);
    return await this.#readLinks(Array.from({ length: size }, (_, fd) => fd));
  }

  async #readLinks(descriptors: readonly number[]): Promise<Map<number, string>> {
    const { pid, readLinks } = this.parts;
    const links = await readLinks(descriptors.map((fd) => `/proc/${pid}/fd/${fd}`));
    return new Map(descriptors.flatMap((fd, index) => (links[index] == null ? [] : [[fd, links[index]]])));
  }
}

function socketsAmong(links: ReadonlyMap<number, string>, known: readonly TcpRow[]): ForeignSocket[] {
  const rows = new Map(known.map((row) => [`socket:[${row.inode}]`, row]));
  return [...links].flatMap(([fd, link]) => {
    const row = rows.get(link);
    if (row === undefined || row.listens) return [];
    const { family, peer, unreadBytes, tcp } = row;
    return [{ fd, family, peer, unreadBytes, tcp }];
  });
}

const watchedBy = (lists: readonly (string | null)[]): Set<number> =>
  new Set(lists.flatMap((list) => interestIn(list ?? "").map(({ fd }) => fd)));

const multiplexersIn = (links: ReadonlyMap<number, string>): number[] =>
  [...links].flatMap(([fd, link]) => (link === "anon_inode:[eventpoll]" ? [fd] : [])).slice(0, multiplexersMax);
