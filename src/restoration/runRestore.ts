// SPDX-License-Identifier: Apache-2.0
/**
 * One restore: a guest's memory and state handed to an empty Cloud Hypervisor that waits for a migration.
 *
 *     prepare: map, memory files, working set ─▶ connect ─▶ start, memory files, config ─▶ fault connection ─▶ state
 *     (faults are answered) ─▶ complete ─▶ it runs ─▶ every page was asked for
 *
 * Eager: all memory is written first, and there is no fault connection. Everything blocks: for a Worker. Whatever fails
 * before `complete` leaves no guest; after it, a page that cannot be served ends Cloud Hypervisor, so that its guest never
 * computes on zeros.
 */
import { MemoryFile } from "#board/native/memoryFile.ts";
import { readableOf, UnixStream } from "#board/native/unixStream.ts";
import { blockFor, systemClock } from "#clock.ts";
import { HypervisorError } from "#errors.ts";
import { PageReader } from "#storage/pageReader.ts";
import { editConfig } from "#vm/offload/configEdit.ts";
import { type GuestRam, pageBytes } from "#vm/offload/guestRam.ts";
import { stepError } from "#vm/offload/receiver.ts";
import {
  type CommandName,
  decodeResponse,
  encodeRequest,
  faultRole,
  messageBytes,
  stateBytesMax,
} from "#vm/offload/wire.ts";
import { FillRest } from "./fillRest.ts";
import { LazyMap } from "./lazyMap.ts";
import { PageFill } from "./pageFill.ts";
import { chunkPages } from "./pageMap.ts";
import { PageServer } from "./pageServer.ts";
import { PageStates } from "./pageStates.ts";
import { touchesMax, unpackTouches } from "./touchOrder.ts";
import { lookAtTables, workingSet } from "./workingSet.ts";

export type RestoreOrder = {
  /** The page file. */
  readonly path: string;
  readonly checkpoint: string;
  readonly guest: string;
  /** Null: eager where the content is small enough, as `eagerBytesMax` says. */
  readonly mode: "lazy" | "eager" | null;
  readonly eagerBytesMax: number;
  readonly prefetchMsMax: number;
  /** Another path for a disk, by Cloud Hypervisor's name of it. */
  readonly disks: Readonly<Record<string, string>>;
};

export type Prepared = {
  readonly mode: "lazy" | "eager";
  readonly contentBytes: number;
  readonly prefetchedBytes: number;
};

/** What Cloud Hypervisor has of the guest; `memory`: its files. */
type Offered = "nothing" | "memory" | "all";

const connectMsMax = 10_000;
const connectPollMs = 0.2;
/** Restoring devices and processors takes milliseconds; a guest that faults there waits for us alone. */
const stateMsMax = 30_000;
const stepMsMax = 10_000;
const pollMs = 200;
/** Memory that is held for a restore which may never come: 16 MiB. */
const readyPagesMax = 4_096;
const compilingPages = 512;

export class Restoring implements Disposable {
  readonly #reader: PageReader;
  readonly map: LazyMap;
  readonly fill: PageFill;
  readonly mode: "lazy" | "eager";
  #files: ReadonlyMap<number, MemoryFile>;
  readonly #states: PageStates;
  readonly #recorded: readonly number[];
  /** The next of the recorded pages to be brought before the guest runs. */
  #next = 0;
  #main: UnixStream | null = null;
  #fault: UnixStream | null = null;
  #server: PageServer | null = null;
  #rest: FillRest | null = null;
  #hypervisorPid = 0;
  /** As it is handed over: edited while the process still starts. */
  #config: Uint8Array | null = null;
  #offered: Offered = "nothing";
  #running = false;

  /** `rehearsed`: gives what it has brought, where it was for the same checkpoint. @throws StorageError, NativeError */
  constructor(
    private readonly order: RestoreOrder,
    rehearsed: Restoring | null = null,
  ) {
    this.#reader = PageReader.open(order.path);
    this.map = new LazyMap(this.#reader, order.checkpoint);
    const { head, ram } = this.map;
    const brought = rehearsed?.order.checkpoint === order.checkpoint ? rehearsed.#give() : null;
    this.#files = brought?.files ?? filesFor(ram, order.guest);
    this.#states = brought?.states ?? new PageStates();
    this.fill = new PageFill(this.map, this.#files, this.#states);
    this.fill.counts.prefetched = brought?.pages ?? 0;
    this.#recorded = unpackTouches(this.#reader.touchOrder(order.guest), ram.pages);
    const small = head.pages.filled * pageBytes <= order.eagerBytesMax;
    this.mode = order.mode ?? (small ? "eager" : "lazy");
  }

  /** Writes what the guest will want first: all of it, or what it wanted last time, until it is `wanted`. */
  prepare(wanted: () => boolean = () => false): Prepared {
    this.#config ??= this.#editedConfig();
    const limitNs = systemClock.monotonicNs() + this.order.prefetchMsMax * 1e6;
    const { counts } = this.fill;
    if (this.mode === "eager") counts.prefetched += this.#bringAll();
    else while (!wanted() && systemClock.monotonicNs() < limitNs && this.#bringNext());
    const contentBytes = this.map.head.pages.filled * pageBytes;
    return { mode: this.mode, contentBytes, prefetchedBytes: counts.prefetched * pageBytes };
  }

  /**
   * Gives Cloud Hypervisor what needs no guest: the memory files, and with `all` the configuration and the fault connection.
   * It may then wait for the rest for as long as it takes. @throws HypervisorError, NativeError
   */
  offer(socket: string, hypervisorPid: number, all: boolean): void {
    if (this.#offered === "nothing") this.#introduce(socket, hypervisorPid);
    if (!all || this.#offered === "all") return;
    this.#config ??= this.#editedConfig();
    this.#ask("config", this.#config);
    if (this.mode === "lazy") this.#openFaults(socket);
    this.#offered = "all";
  }

  /** True where it has been offered for this very order: then it is to be gone on with, not begun anew. */
  stands(order: RestoreOrder): boolean {
    return this.#offered !== "nothing" && Bun.deepEquals(order, this.order);
  }

  /** Returns once Cloud Hypervisor runs the guest (or holds it paused). @throws HypervisorError, StorageError, NativeError */
  start(socket: string, hypervisorPid: number, waits: BigInt64Array): void {
    this.offer(socket, hypervisorPid, true);
    if (this.#fault !== null) this.#server = this.#newServer(this.#fault, waits);
    const { state } = this.map;
    if (state.length > stateBytesMax) throw broken("state", `it has ${state.length} bytes`);
    this.fill.live = true;
    this.#ask("state", state, stateMsMax);
    this.#ask(this.map.head.ran ? "complete" : "completePaused");
    this.#running = true;
    this.#main!.finish();
  }

  /**
   * Serves until every page was asked for; `progress` is called now and then. Gives what the guest wanted first, in the
   * order to bring it in the next time.
   */
  serve(progress: () => void): readonly number[] {
    const server = this.#server;
    if (server === null) return [];
    server.begin();
    const tables = lookAtTables(this.map, this.#files, this.#hypervisorPid);
    let mapped: readonly number[] | null | undefined;
    for (let round = 1; server.serveNext(); round += 1) {
      if (round % 4_096 === 0) progress();
      if (mapped === undefined && server.isPastFirstMoment) mapped = stepOf(tables);
    }
    while (mapped === undefined) mapped = stepOf(tables);
    return workingSet(this.#recorded, server.touched, mapped, touchesMax);
  }

  [Symbol.dispose](): void {
    this.#main?.[Symbol.dispose]();
    this.#fault?.[Symbol.dispose]();
    this.#rest?.[Symbol.dispose]();
    for (const file of this.#files.values()) file[Symbol.dispose]();
    this.#reader[Symbol.dispose]();
  }

  /** Brings what it wanted last time long before it is wanted again, page by page, and no more than `readyPagesMax`. */
  rehearse(): void {
    const { counts } = this.fill;
    for (const page of this.#recorded) {
      if (counts.prefetched >= readyPagesMax) return;
      if (this.fill.bringAlone(page)) counts.prefetched += 1;
    }
    // Where nothing is recorded yet, anything will do to have everything compiled.
    for (let page = 0; page < this.map.ram.pages && counts.prefetched < compilingPages; page += 1) {
      if (this.map.isZeroChunk(Math.floor(page / chunkPages))) page += chunkPages - 1;
      else counts.prefetched += this.fill.bring(page);
    }
  }

  #introduce(socket: string, hypervisorPid: number): void {
    this.#hypervisorPid = hypervisorPid;
    const main = connectTo(socket);
    this.#main = main;
    if (main.peerPid !== hypervisorPid) throw broken("connect", "another process than Cloud Hypervisor listens");
    this.#ask("start");
    for (const [slot, file] of this.#files) this.#sendFile(slot, file);
    this.#offered = "memory";
  }

  #editedConfig(): Uint8Array {
    return Buffer.from(editConfig(this.map.config, { disks: this.order.disks }));
  }

  #give(): { files: ReadonlyMap<number, MemoryFile>; states: PageStates; pages: number } {
    const files = this.#files;
    this.#files = new Map();
    return { files, states: this.#states, pages: this.fill.counts.prefetched };
  }

  #bringAll(): number {
    let written = 0;
    for (let chunk = 0; chunk < this.map.chunkCount; chunk += 1) {
      if (this.map.isZeroChunk(chunk)) continue;
      for (let index = 0; index < chunkPages; index += 1) written += this.fill.bring(chunk * chunkPages + index);
    }
    return written;
  }

  #sendFile(slot: number, file: MemoryFile): void {
    const number = new Uint8Array(new ArrayBuffer(4));
    new DataView(number.buffer).setUint32(0, slot, true);
    stepping("memoryFd", () => {
      this.#main!.write(encodeRequest("memoryFd", 4), stepMsMax);
      this.#main!.writeWithDescriptor(number, file.descriptor, stepMsMax);
    });
    this.#answer("memoryFd");
  }

  #openFaults(socket: string): void {
    this.#fault = connectTo(socket);
    stepping("fault", () => this.#fault!.write(faultRole, stepMsMax));
  }

  /** Until the guest runs, an answer on the main connection comes first. */
  #newServer(fault: UnixStream, waits: BigInt64Array): PageServer {
    const heard = (): UnixStream[] => (this.#running ? [fault] : [fault, this.#main!]);
    this.#rest = new FillRest(this.#hypervisorPid, heard, () => !this.#running && this.#bringNext());
    return new PageServer(fault, this.fill, this.#recorded, waits, this.#rest);
  }

  #ask(command: CommandName, payload?: Uint8Array, msMax = stepMsMax): void {
    this.#send(command, payload);
    this.#whileItWorks(command, msMax);
    this.#answer(command);
  }

  /** Until it has answered: what is restored may want pages, and what it wanted last time is brought. */
  #whileItWorks(command: CommandName, msMax: number): void {
    const limitNs = systemClock.monotonicNs() + msMax * 1e6;
    const streams = this.#fault === null ? [this.#main!] : [this.#main!, this.#fault];
    for (let idle = false; systemClock.monotonicNs() < limitNs; ) {
      const [answered, faulted] = readableOf(streams, idle ? pollMs : 0);
      if (answered === true) return;
      if (faulted !== true) idle = this.mode === "eager" || !this.#bringNext();
      else if (!this.#server!.serveWaiting()) throw broken(command, "the fault connection was closed");
    }
    throw new HypervisorError("hypervisor.peerSilent", `Cloud Hypervisor fell silent at ${command}`, { step: command });
  }

  /** False where all that was recorded is there. */
  #bringNext(): boolean {
    for (; this.#next < this.#recorded.length; this.#next += 1) {
      const written = this.fill.bring(this.#recorded[this.#next]!);
      this.fill.counts.prefetched += written;
      if (written > 0) return true;
    }
    return false;
  }

  #send(command: CommandName, payload?: Uint8Array): void {
    stepping(command, () => {
      this.#main!.write(encodeRequest(command, payload?.length ?? 0), stepMsMax);
      if (payload !== undefined) this.#main!.write(payload, stepMsMax);
    });
  }

  #answer(step: string): void {
    const response = new Uint8Array(new ArrayBuffer(messageBytes));
    stepping(step, () => this.#main!.read(response, stepMsMax));
    if (decodeResponse(response) === "ok") return;
    throw new HypervisorError("hypervisor.rejected", `Cloud Hypervisor refused ${step}`, { step });
  }
}

/** Undefined as long as there is more to read, null where it cannot be read: the next restore then brings less early. */
function stepOf(tables: Iterator<undefined, number[]>): readonly number[] | null | undefined {
  try {
    const { done, value } = tables.next();
    return done === true ? value : undefined;
  } catch {
    return null;
  }
}

function filesFor({ regions }: GuestRam, guest: string): Map<number, MemoryFile> {
  const files = new Map<number, MemoryFile>();
  for (const { slot, fileOffset, bytes } of regions) {
    const size = Math.max(fileOffset + bytes, files.get(slot)?.bytes ?? 0);
    files.get(slot)?.[Symbol.dispose]();
    files.set(slot, MemoryFile.create(`guest ${guest}`, size));
  }
  return files;
}

/** Cloud Hypervisor binds the path some time after it was told to. */
function connectTo(socket: string): UnixStream {
  const limitNs = systemClock.monotonicNs() + connectMsMax * 1e6;
  for (;;) {
    const stream = UnixStream.connect(socket);
    if (stream !== null) return stream;
    if (systemClock.monotonicNs() > limitNs) throw broken("connect", `nobody listens at ${socket}`);
    blockFor(connectPollMs);
  }
}

function stepping<Value>(step: string, act: () => Value): Value {
  try {
    return act();
  } catch (error) {
    throw stepError(error, step);
  }
}

const broken = (step: string, why: string): HypervisorError =>
  new HypervisorError("hypervisor.protocol", `the restore failed at ${step}: ${why}`, { step });
