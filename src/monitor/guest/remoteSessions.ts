// SPDX-License-Identifier: Apache-2.0
/**
 * The client connections of a program inside a guest, as its /proc tells through the stub, and as its kit lists them. Gets a
 * stopped thread; gives what sessions.ts gives of a program beside us. Stops nothing.
 *
 * When a connection was last heard and answered is told by the list alone: without it memory decides (connectionEvidence.ts).
 *
 * Limits: 1,024 descriptors; TCP only, as clients of a guest come by its network. Source: proc(5).
 */
import type { ForeignSocket } from "#board/native/foreignSockets.ts";
import type { Clock } from "#clock.ts";
import type { Architecture, VirtualAddress } from "#fault.ts";
import { BoundConnections } from "../boundConnections.ts";
import { type Connections, seenWith } from "../connectionEvidence.ts";
import { interestIn } from "../interestList.ts";
import { othersMax, watchedByOthers } from "../multiplexers.ts";
import { type BlockedThread, tableSizeIn } from "../processes.ts";
import { type Excused, Progress, type Waits } from "../progress.ts";
import { polledDescriptor, waitedDescriptor } from "../waits.ts";
import { type ReadFile, readText } from "./remoteCode.ts";
import { type ReadPages, RemoteView } from "./remoteView.ts";
import { connectionsIn, type TcpRow, tcpRowsIn } from "./tcpRows.ts";

const descriptorsMax = 1_024;

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
    // What it has left may have been closed since.
    const asked = [waitedDescriptor(blocked, architecture) ?? polled, this.#bound.lastSeenOn(tid)];
    const descriptors = asked.filter((fd) => fd !== null);
    const links = await this.#readLinks(descriptors);
    for (const fd of descriptors) this.#links.delete(fd);
    for (const [fd, link] of links) this.#links.set(fd, link);
    this.#bound.note(tid, blocked);
  }

  /** At a stop, against which is held what comes after it. @throws GdbError */
  async lookAtStop(tid: number): Promise<Connections> {
    const connections = await this.look(tid);
    this.#progress.note(tid, connections.sockets);
    return connections;
  }

  /** Every connection, and how the thread stands to it. @throws GdbError */
  async look(tid: number): Promise<Connections> {
    const { pid, readFile, threads, multiplexersFor } = this.parts;
    const read = (name: string): Promise<string | null> => readText(readFile, `/proc/${pid}/${name}`);
    const { own, others } = multiplexersFor(tid);
    // Where there are no others, nobody asks what its own watches.
    const watching = own === null || others.length === 0 ? [] : [own, ...others.slice(0, othersMax)];
    const [links, known, children, ...lists] = await Promise.all([
      this.#readTable(),
      this.#readRows(),
      read(`task/${pid}/children`),
      ...watching.map((multiplexer) => read(`fdinfo/${multiplexer}`)),
    ]);
    this.#links = links;
    const [mine = null, ...theirs] = lists.map((list) => (list === null ? null : interestIn(list)));
    // A kernel that does not tell of children: the careful way works in both cases.
    const shared = children === null || children.trim() !== "";
    const elsewhere = watchedByOthers(mine, theirs);
    const sockets = seenWith(socketsAmong(links, known), elsewhere, this.#bound.of(tid, threads()));
    return { sockets, shared, multiplexers: shared ? multiplexersIn(links) : null };
  }

  /**
   * What is wrong where requests wait in vain since the last stop of this thread; null where they do not. Without a list it is
   * not known how much each connection was sent: that is left to the configured probes. @throws GdbError
   */
  unserved(tid: number, excused: Excused, slowness: number, signal: AbortSignal): Promise<string | null> {
    const look = async (): Promise<Waits> => ({ sockets: await this.#listed(), lockWaits: [] });
    return this.#progress.unserved(tid, excused, look, this.parts.clock, signal, slowness);
  }

  /** Every connection now; none where nobody lists them, and then nobody is seen to wait. */
  async #listed(): Promise<readonly ForeignSocket[]> {
    const list = await this.parts.listConnections();
    return list === null ? [] : socketsAmong(await this.#readTable(), connectionsIn(list));
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

const multiplexersIn = (links: ReadonlyMap<number, string>): number[] =>
  [...links].flatMap(([fd, link]) => (link === "anon_inode:[eventpoll]" ? [fd] : [])).slice(0, othersMax);
