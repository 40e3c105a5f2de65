// SPDX-License-Identifier: Apache-2.0
/**
 * Groups of counted events of one thread. Gets a thread id and events; gives a group that reads all of them at once into
 * shared memory, together with how long they were counted and how long they were on hardware. Nothing is sampled, nobody stopped.
 *
 * Reading allocates nothing and decodes nothing: the kernel writes where the reader looks. Source: perf_event_open(2), number 298 on x86-64 and 241 on AArch64;
 * `struct perf_event_attr` of `include/uapi/linux/perf_event.h`, its first version, 64 bytes:
 *
 *     offset 0  u32 type     offset 8   u64 config       offset 40  u64 flags: bit 5 exclude_kernel, 6 exclude_hv
 *     offset 4  u32 size     offset 32  u64 read_format: 1 enabled, 2 running, 8 group
 *
 * A read of a group of n events gives u64 n, enabled ns, running ns, then n values. Measured: 0.8 µs a read.
 */
import { FFIType, ptr } from "bun:ffi";
import { NativeError } from "#errors.ts";
import { errno, fixedBytes, openLibc } from "./libc.ts";

const { i32, i64_fast: i64, u64_fast: u64, ptr: pointer } = FFIType;
const libc = openLibc({
  syscall: { args: [i64, pointer, i64, i64, i64, i64], returns: i64 },
  read: { args: [i32, u64, i32], returns: i32 },
  close: { args: [i32], returns: i32 },
});

const { read } = libc;

const perfEventOpen = process.arch === "arm64" ? 241 : 298;
const attributeBytes = 64;
const readFormat = 1n | 2n | 8n;
const [excludeKernel, excludeHypervisor] = [1n << 5n, 1n << 6n];
const closeOnExec = 8;
const anyProcessor = -1;

/** Types of events that every kernel knows (perf_type_id); a PMU has a type of its own, told by sysfs. */
export const perfTypes = { hardware: 0, software: 1, tracepoint: 2 } as const;

export type PerfEvent = { readonly type: number; readonly config: bigint };
/** What the kernel said to one event: null where it counts, else its errno. */
export type PerfAnswer = number | null;

const wordBytes = 8;
/** 64-bit words that a read writes before the values: how many events, enabled ns, running ns. */
export const groupHeadWords = 3;

/** Opens events of one thread, reads them into shared memory. */
export class PerfGroup implements Disposable {
  readonly #files: number[] = [];
  /** For each event that was asked for: whether it counts. Words are written for those only. */
  readonly answers: readonly PerfAnswer[];

  /** Opens what can be opened of `events`. `userOnly`: not what the kernel does for the thread. */
  static open(tid: number, events: readonly PerfEvent[], userOnly: boolean): PerfGroup {
    return new PerfGroup(tid, events, userOnly);
  }

  private constructor(tid: number, events: readonly PerfEvent[], userOnly: boolean) {
    this.answers = events.map((event) => {
      const file = openEvent(tid, event, this.#files[0] ?? -1, userOnly);
      if (file >= 0) this.#files.push(file);
      return file >= 0 ? null : -file;
    });
  }

  /** The descriptor that reads for all; -1 where there is none. */
  get leader(): number {
    return this.#files[0] ?? -1;
  }
  /** What a read of it writes. */
  get bytes(): number {
    return (groupHeadWords + this.#files.length) * wordBytes;
  }

  /** Whether every event that was asked for counts. */
  get whole(): boolean {
    return this.#files.length === this.answers.length;
  }

  [Symbol.dispose](): void {
    for (const file of this.#files.splice(0).reverse()) libc.close(file);
  }
}

/** Where a group is read to: so many bytes after the row of its thread, which has a number of its own. */
export type PlacedGroup = { readonly group: PerfGroup; readonly thread: number; readonly placeBytes: number };

/**
 * Reads many groups into shared memory by one short loop over plain numbers: on a processor that has slept, code and objects
 * that are not touched cost nothing (a third of a tick, measured). Groups must live as long as they are read here.
 */
export class PerfReads {
  readonly #memory: Uint8Array;
  readonly #address: number;
  /** For each read: descriptor, number of the thread, place in its row, bytes. */
  #reads = new Int32Array(0);

  constructor(memory: SharedArrayBuffer) {
    // Shared memory never moves.
    this.#memory = new Uint8Array(memory);
    this.#address = ptr(this.#memory);
  }

  /** From now on these are read. */
  set(groups: readonly PlacedGroup[]): void {
    const open = groups.filter(({ group }) => group.leader >= 0);
    this.#reads = Int32Array.from(
      open.flatMap(({ group, thread, placeBytes }) => [group.leader, thread, placeBytes, group.bytes]),
    );
  }

  /** Writes the words of each group: head, then the values. `rowBytes`: where the row of each thread begins. */
  read(rowBytes: Int32Array): void {
    const reads = this.#reads;
    const address = this.#address;
    const end = this.#memory.length;
    for (let at = 0; at < reads.length; at += readWords) {
      const toBytes = rowBytes[reads[at + 1]!]! + reads[at + 2]!;
      const bytes = reads[at + 3]!;
      if (toBytes >= 0 && toBytes + bytes <= end) read(reads[at]!, address + toBytes, bytes);
    }
  }
}

const readWords = 4;

/** A descriptor, or minus errno. */
function openEvent(tid: number, event: PerfEvent, leader: number, userOnly: boolean): number {
  const attribute = fixedBytes(attributeBytes);
  const view = new DataView(attribute.buffer);
  view.setUint32(0, event.type, true);
  view.setUint32(4, attributeBytes, true);
  view.setBigUint64(8, event.config, true);
  view.setBigUint64(32, readFormat, true);
  view.setBigUint64(40, userOnly ? excludeKernel | excludeHypervisor : 0n, true);
  const file = Number(libc.syscall(perfEventOpen, attribute, tid, anyProcessor, leader, closeOnExec));
  return file >= 0 ? file : -errno();
}

if (new Uint8Array(new Uint32Array([1]).buffer)[0] !== 1) {
  throw new NativeError("native.layout", "counters are read as little-endian words, which this machine has not");
}
