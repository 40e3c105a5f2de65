// SPDX-License-Identifier: Apache-2.0
/**
 * The private directory of one guest: where its sockets, its log and its events lie. Gets a path; gives the names in it.
 *
 * Mode 0700, owned by the user Cloud Hypervisor runs as: whoever reaches these sockets owns the guest. Names are fixed,
 * so a later supervisor finds what an earlier one left. A process that stands by works in the same directory, in a seat
 * with names of its own; once it is the guest, the guest's names lead to them. Limit: a socket path has at most
 * `socketPathBytesMax` bytes (`sun_path`, unix(7)), with room for the `_PORT` that vsock appends.
 */
import { chmodSync, chownSync, lstatSync, mkdirSync, readlinkSync, renameSync, rmSync, symlinkSync } from "node:fs";
import { basename, join } from "node:path";
import { HypervisorError } from "#errors.ts";

export const socketPathBytesMax = 107;
/** `_` and the ten digits of a vsock port. */
const portSuffixBytes = 11;

export class RunDirectory {
  readonly apiSocket: string;
  /** Where it waits for a guest to come in. */
  readonly inSocket: string;
  readonly vsockSocket: string;
  /** The event monitor's file, appended to by Cloud Hypervisor. */
  readonly events: string;
  /** What Cloud Hypervisor prints. */
  readonly log: string;
  /** What the guest prints on its serial port. */
  readonly console: string;
  /** What the supervisor remembers of this guest across its own restarts. */
  readonly memory: string;

  /** @throws HypervisorError hypervisor.socket where the path is too long for a socket. */
  constructor(
    readonly path: string,
    /** 0: the guest's own; others are for processes that stand by. */
    readonly seat = 0,
  ) {
    const own = seat === 0 ? "" : `-${seat}`;
    this.apiSocket = join(path, `api${own}.sock`);
    this.inSocket = join(path, `in${own}.sock`);
    this.vsockSocket = join(path, "vsock.sock");
    this.events = join(path, `events${own}.json`);
    this.log = join(path, `hypervisor${own}.log`);
    this.console = join(path, "console.log");
    this.memory = join(path, "memory.json");
    const longest = Buffer.byteLength(this.vsockSocket) + portSuffixBytes;
    if (longest > socketPathBytesMax) {
      const message = `${path} is too long for the sockets in it: choose a shorter run directory or guest name`;
      throw new HypervisorError("hypervisor.socket", message, { bytes: longest, most: socketPathBytesMax });
    }
  }

  /** Makes it, or takes an existing one that is ours. @throws HypervisorError hypervisor.socket */
  make(owner?: { readonly uid: number; readonly gid: number }): void {
    try {
      mkdirSync(this.path, { recursive: true, mode: 0o700 });
      const found = lstatSync(this.path);
      if (!found.isDirectory()) throw new HypervisorError("hypervisor.socket", `${this.path} is not a directory`);
      chmodSync(this.path, 0o700);
      if (owner !== undefined) chownSync(this.path, owner.uid, owner.gid);
    } catch (cause) {
      if (cause instanceof HypervisorError) throw cause;
      throw new HypervisorError("hypervisor.socket", `the run directory ${this.path} cannot be made`, {}, cause);
    }
  }

  /** The seat of the process that is the guest, which may be one that stood by before. */
  get taken(): number {
    return Number(/^api-(\d+)\.sock$/.exec(leadsTo(this.apiSocket) ?? "")?.[1] ?? 0);
  }

  at(seat: number): RunDirectory {
    return new RunDirectory(this.path, seat);
  }

  /** From now on the process in this seat is the guest: its names lead to it, the one it is found by last. */
  give(seat: number): void {
    const { log, events, apiSocket } = this.at(seat);
    for (const [name, to] of [
      [this.log, log],
      [this.events, events],
      [this.apiSocket, apiSocket],
    ] as const) {
      const draft = `${name}.new`;
      rmSync(draft, { force: true });
      symlinkSync(basename(to), draft);
      renameSync(draft, name);
    }
  }

  /** Removes the sockets of a process that is gone: Cloud Hypervisor refuses paths that exist. */
  removeSockets(): void {
    const { taken } = this;
    const shared = this.seat === 0 ? [this.vsockSocket] : [];
    for (const path of [this.apiSocket, this.inSocket, ...shared]) rmSync(path, { force: true });
    if (this.seat === 0 && taken !== 0) this.at(taken).removeSockets();
  }

  /** Removes what a process that stood by has left, or what leads to it: whoever is next writes files of its own. */
  removeTraces(): void {
    for (const path of [this.log, this.events]) {
      const to = leadsTo(path);
      if (to !== null) rmSync(join(this.path, to), { force: true });
      if (to !== null || this.seat !== 0) rmSync(path, { force: true });
    }
  }
}

/** What a link names, or null where it is none. */
function leadsTo(path: string): string | null {
  try {
    return readlinkSync(path);
  } catch {
    return null;
  }
}
