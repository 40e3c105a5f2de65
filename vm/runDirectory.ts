// SPDX-License-Identifier: Apache-2.0
/**
 * The private directory of one guest: where its sockets, its log and its events lie. Gets a path; gives the names in it.
 *
 * Mode 0700, owned by the user Cloud Hypervisor runs as: whoever reaches these sockets owns the guest. Names are fixed,
 * so a later supervisor finds what an earlier one left. Limit: a socket path has at most `socketPathBytesMax` bytes
 * (`sun_path`, unix(7)), with room for the `_PORT` that vsock appends.
 */
import { chmodSync, chownSync, lstatSync, mkdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { HypervisorError } from "#errors.ts";

export const socketPathBytesMax = 107;
/** `_` and the ten digits of a vsock port. */
const portSuffixBytes = 11;

export class RunDirectory {
  readonly apiSocket: string;
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
  constructor(readonly path: string) {
    this.apiSocket = join(path, "api.sock");
    this.vsockSocket = join(path, "vsock.sock");
    this.events = join(path, "events.json");
    this.log = join(path, "hypervisor.log");
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

  /** Removes the sockets of a process that is gone: Cloud Hypervisor refuses paths that exist. */
  removeSockets(): void {
    for (const path of [this.apiSocket, this.vsockSocket]) rmSync(path, { force: true });
  }
}
