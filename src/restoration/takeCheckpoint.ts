// SPDX-License-Identifier: Apache-2.0
/**
 * One checkpoint of a running guest: Cloud Hypervisor sends itself, we store everything and decline, the guest goes on.
 *
 *     listen ─▶ receive: start ─▶ memory (files or stream), config ─▶ guess, while it runs ─▶ it stands still: state,
 *     truth, disks ─▶ decline ─▶ it runs ─▶ seal (or nothing of it is ever seen)
 *
 * Gets an order and the page file; gives what was held, then what was sealed. Everything blocks: for a Worker. Limits:
 * `acceptMsMax` until it connects; the order's `heldMsMax` for a guest that stands still.
 */
import { chownSync, mkdirSync, rmSync } from "node:fs";
import { dirname, join } from "node:path";
import { MemoryFile } from "#board/native/memoryFile.ts";
import { cloneFile, flushFile } from "#board/native/reflink.ts";
import { UnixListener, type UnixStream } from "#board/native/unixStream.ts";
import { systemClock } from "#clock.ts";
import { HypervisorError } from "#errors.ts";
import type { PageFile } from "#storage/pageFile.ts";
import { type GuestRam, ramOf } from "#vm/offload/guestRam.ts";
import { findUnreadyQueue } from "#vm/offload/readyQueues.ts";
import { MigrationReceiver, stepError } from "#vm/offload/receiver.ts";
import {
  type CheckpointHead,
  type CheckpointMethod,
  type DiskClone,
  decodeHead,
  encodeHead,
} from "./checkpointHead.ts";
import { MemoryScan } from "./memoryScan.ts";
import { PageHash, sha256Hex } from "./pageHash.ts";
import { PagePacker } from "./pagePacker.ts";
import { PageTable } from "./pageTable.ts";
import { Staging } from "./staging.ts";
import { readStream, ShortMessages } from "./streamedMemory.ts";

export type CheckpointOrder = {
  readonly id: string;
  readonly guest: string;
  readonly atMs: number;
  readonly build: string;
  readonly method: CheckpointMethod;
  /** Where we listen: in the guest's run directory. */
  readonly socket: string;
  readonly hypervisorPid: number;
  /** Cloud Hypervisor's user, who must be able to connect. */
  readonly owner: { readonly uid: number; readonly gid: number } | null;
  /** Disks that the guest may write, and where their clones go. */
  readonly disks: readonly { readonly id: string; readonly path: string }[];
  readonly cloneDirectory: string;
  /** A guest that would stand still for longer is let go without a checkpoint. */
  readonly heldMsMax: number;
};

/** What is known once the guest runs again. */
export type Held = { readonly heldMs: number; readonly stagedBytes: number; readonly scannedBytes: number };
export type Sealed = { readonly id: string; readonly addedPages: number; readonly addedBytes: number };

const acceptMsMax = 10_000;
/** What changed is stored once the guest runs again, so that a page that goes on changing is stored once; up to so much. */
const heldBackBytes = 64 << 20;
/** What has not settled after so many rounds will not. */
const passesMax = 20;

export class CheckpointTaking implements Disposable {
  readonly #listener: UnixListener;
  readonly #hash: PageHash;
  readonly #staging = new Staging();
  readonly #files = new Map<number, MemoryFile>();
  #stream: UnixStream | null = null;
  #table: PageTable | null = null;
  #packer: PagePacker | null = null;
  #still: () => void = () => {};
  #ran = true;
  #heldMs = 0;
  #scannedBytes = 0;
  #config: Uint8Array = new Uint8Array();
  #state: Uint8Array = new Uint8Array();
  #disks: DiskClone[] = [];

  /** Listens when this returns. @throws NativeError */
  constructor(
    private readonly order: CheckpointOrder,
    private readonly file: PageFile,
  ) {
    rmSync(order.socket, { force: true });
    this.#listener = new UnixListener(order.socket);
    if (order.owner !== null) chownSync(order.socket, order.owner.uid, order.owner.gid);
    this.#hash = new PageHash(file.reader.seed);
  }

  /** Waits for Cloud Hypervisor; gives the descriptor by which another thread can cut the connection. */
  connect(): number {
    this.#stream = stepping("connect", () => this.#listener.accept(acceptMsMax));
    const { peerPid } = this.#stream;
    if (peerPid === this.order.hypervisorPid) return this.#stream.descriptor;
    const message = "another process than Cloud Hypervisor has connected";
    throw new HypervisorError("hypervisor.protocol", message, { expected: this.order.hypervisorPid, came: peerPid });
  }

  /** Returns once the guest goes on; `still` is called while it does not. @throws HypervisorError, StorageError, NativeError: then nothing of it is kept */
  receive(still: () => void): Held {
    this.#still = still;
    const receiver = new MigrationReceiver(this.#stream!);
    try {
      if (this.order.method === "memoryFile") this.#receiveFiles(receiver);
      else this.#receiveStream(receiver);
      return { heldMs: this.#heldMs, stagedBytes: this.#staging.bytes, scannedBytes: this.#scannedBytes };
    } finally {
      receiver.decline();
      this.#stream!.finish();
    }
  }

  /** Stores what is still in memory and makes the checkpoint exist. @throws HypervisorError hypervisor.queueNotReady, StorageError */
  seal(): Sealed {
    const { id, guest, atMs, build, method } = this.order;
    const [table, packer] = [this.#table!, this.#packer!];
    this.#refuseUnready(table.ram);
    for (const { page, bytes } of this.#staging.pages()) {
      const hash = this.#hash.of(bytes);
      if (table.hashes[page] !== hash) packer.put(page, bytes, hash);
    }
    for (const { clone } of this.#disks) flushFile(clone);
    const { changed, runs, names } = table.chunks();
    packer.flush(changed);
    const head: CheckpointHead = {
      build,
      architecture: process.arch,
      method,
      ran: this.#ran,
      regions: table.ram.regions.map(({ firstPage: _, ...region }) => region),
      chunks: runs,
      disks: this.#disks,
      configSum: sha256Hex(this.#config),
      stateSum: sha256Hex(this.#state),
      pages: { filled: table.filled, added: packer.added, addedBytes: packer.addedBytes },
      heldMs: this.#heldMs,
    };
    this.file.seal({
      id,
      guest,
      atMs,
      head: encodeHead(head),
      config: this.#config,
      state: this.#state,
      chunks: names,
    });
    return { id, addedPages: packer.added, addedBytes: packer.addedBytes };
  }

  /** What a checkpoint that is not kept leaves behind. */
  discard(): void {
    for (const { clone } of this.#disks) rmSync(clone, { force: true });
  }

  [Symbol.dispose](): void {
    this.#stream?.[Symbol.dispose]();
    this.#listener[Symbol.dispose]();
    for (const file of this.#files.values()) file[Symbol.dispose]();
    rmSync(this.order.socket, { force: true });
  }

  #receiveFiles(receiver: MigrationReceiver): void {
    receiver.expect("start");
    receiver.accept();
    let request = receiver.next();
    for (; request.command === "memoryFd"; request = receiver.next()) {
      const { slot, descriptor } = receiver.memoryFile();
      this.#files.get(slot)?.[Symbol.dispose]();
      this.#files.set(slot, new MemoryFile(descriptor));
      receiver.accept();
    }
    const table = this.#takeConfig(receiver, request.lengthBytes);
    for (const { slot, fileOffset, bytes } of table.ram.regions) {
      const size = this.#files.get(slot)?.bytes ?? 0;
      if (size >= fileOffset + bytes) continue;
      throw new HypervisorError("hypervisor.protocol", `memory slot ${slot} has no file that is large enough`, {
        size,
      });
    }
    const scan = new MemoryScan(table.ram, this.#files, this.#hash, (page) => this.#staging.has(page));
    const rescanMs = this.#guess(scan, table);
    if (rescanMs > this.order.heldMsMax) throw this.#tooLong(rescanMs);
    receiver.accept();
    this.#takeState(receiver, () => {
      const limitNs = systemClock.monotonicNs() + this.order.heldMsMax * 1e6;
      scan.run(table, (page, bytes) => {
        this.#staging.put(page, bytes);
        if (systemClock.monotonicNs() > limitNs) throw this.#tooLong(this.order.heldMsMax);
      });
      this.#scannedBytes = scan.scannedBytes;
    });
  }

  /** Looks at what changed while the guest runs, twice: the second look is quick and tells how long the last will take. */
  #guess(scan: MemoryScan, table: PageTable): number {
    scan.run(table, (page, bytes, hash) => this.#keep(page, bytes, hash));
    for (const { path } of this.order.disks) flushFile(path);
    const fromNs = systemClock.monotonicNs();
    scan.run(table, (page, bytes, hash) => this.#keep(page, bytes, hash));
    return (systemClock.monotonicNs() - fromNs) / 1e6;
  }

  #keep(page: number, bytes: Uint8Array, hash: bigint): void {
    if (this.#staging.bytes < heldBackBytes || this.#staging.has(page)) this.#staging.put(page, bytes);
    else this.#packer!.put(page, bytes, hash);
  }

  #receiveStream(receiver: MigrationReceiver): void {
    receiver.expect("start");
    receiver.accept();
    const table = this.#takeConfig(receiver, receiver.expect("config").lengthBytes);
    receiver.accept();
    let request = receiver.next();
    const short = new ShortMessages();
    for (let pass = 0; request.command === "memory"; pass += 1, request = receiver.next()) {
      if (pass > passesMax) throw this.#unsettled(pass);
      if (pass > 0) {
        short.read(receiver, request.lengthBytes, table.ram, (page, bytes) => this.#staging.put(page, bytes));
        continue;
      }
      readStream(receiver, request.lengthBytes, table.ram, (page, bytes) => {
        const hash = this.#hash.of(bytes);
        if (table.hashes[page] !== hash) this.#keep(page, bytes, hash);
      });
    }
    this.#readState(receiver, request.lengthBytes, () => {});
  }

  #takeConfig(receiver: MigrationReceiver, lengthBytes: number): PageTable {
    this.#config = new Uint8Array(lengthBytes);
    receiver.payload(this.#config);
    const ram = ramOf(new TextDecoder().decode(this.#config));
    const table = new PageTable(ram, this.#hash);
    const parent = this.file.reader.checkpoints.find(({ guest, bad }) => guest === this.order.guest && !bad);
    if (parent !== undefined) table.inherit(parent.id, decodeHead(parent.id, parent.head), this.file.reader);
    this.#table = table;
    this.#packer = new PagePacker(this.file, table, this.#hash);
    return table;
  }

  #takeState(receiver: MigrationReceiver, whileHeld: () => void): void {
    this.#readState(receiver, receiver.expect("state").lengthBytes, whileHeld);
  }

  #readState(receiver: MigrationReceiver, lengthBytes: number, whileHeld: () => void): void {
    const fromNs = systemClock.monotonicNs();
    this.#still();
    this.#state = new Uint8Array(lengthBytes);
    receiver.payload(this.#state);
    receiver.accept();
    this.#ran = receiver.expect("complete", "completePaused").command === "complete";
    whileHeld();
    this.#cloneDisks();
    receiver.decline();
    this.#heldMs = (systemClock.monotonicNs() - fromNs) / 1e6;
  }

  #cloneDisks(): void {
    const { disks, cloneDirectory, id: checkpoint } = this.order;
    if (disks.length > 0) mkdirSync(cloneDirectory, { recursive: true, mode: 0o700 });
    for (const { id, path } of disks) {
      const clone = join(cloneDirectory, `${checkpoint}.${id}`);
      this.#disks.push({ id, path, clone });
      cloneFile(path, clone);
    }
  }

  #refuseUnready(ram: GuestRam): void {
    const unready = findUnreadyQueue(new TextDecoder().decode(this.#state), ram);
    if (unready === null) return;
    const { device, queue } = unready;
    const message = `queue ${queue} of ${device} was never set up by the guest: load its driver, or take it away`;
    throw new HypervisorError("hypervisor.queueNotReady", message, { device, queue });
  }

  #unsettled(rounds: number): HypervisorError {
    const message = `the guest writes faster than a short stop allows: its memory has not settled in ${rounds} rounds`;
    return new HypervisorError("hypervisor.noConvergence", message, { guest: this.order.guest });
  }

  #tooLong(ms: number): HypervisorError {
    const message = `the guest would stand still for ${Math.round(ms)} ms and more; ${this.order.heldMsMax} are allowed`;
    return new HypervisorError("hypervisor.noConvergence", message, { guest: this.order.guest });
  }
}

function stepping<Value>(step: string, act: () => Value): Value {
  try {
    return act();
  } catch (error) {
    throw stepError(error, step);
  }
}

/** Where clones of a guest's disks go: beside the disk, for only there can they share its blocks. */
export const cloneDirectoryFor = (disk: string): string => join(dirname(disk), ".holdfast");
