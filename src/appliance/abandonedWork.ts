// SPDX-License-Identifier: Apache-2.0
/**
 * What is remembered of threads whose work was abandoned, for as long as somebody may wait for what it has left behind.
 * Gets the report of each act; answers whose a lock is.
 *
 * Limits: 256 threads, the oldest goes first; the words of 2 KiB of stack and of 64 frames each.
 */
import { ByteReader, fromHex } from "#bytes.ts";
import type { FaultReport, Rung, VirtualAddress } from "#fault.ts";
import { threadPointerNumber } from "#monitor/gdb/registers.ts";
import type { AbandonedWork } from "#suppression/lockKinds.ts";

const threadsMax = 256;
const framesMax = 64;
const wordBytes = 8;
/** A lock lies at most so far behind the beginning of its object. */
const objectBytes = 512n;

/** The part of a report that matters here. */
export type ActedOn = Pick<FaultReport, "tid" | "architecture" | "registers" | "inAllocator" | "stack" | "frames">;

type Work = {
  readonly atNs: number;
  readonly isParked: boolean;
  readonly pointer: bigint | null;
  readonly inAllocator: boolean;
  /** Words of the abandoned frames. */
  readonly words: ReadonlySet<bigint>;
};

export class AbandonedWorks implements Omit<AbandonedWork, "reading" | "hasDied"> {
  readonly #works = new Map<number, Work>();

  get lastNs(): number {
    return Math.max(...[...this.#works.values()].map(({ atNs }) => atNs));
  }

  note(report: ActedOn, rung: Rung, atNs: number): void {
    const { tid } = report;
    const pointer = report.registers[threadPointerNumber[report.architecture]] ?? null;
    const { inAllocator } = report;
    const words = wordsOf(report);
    this.#works.delete(tid);
    if (this.#works.size >= threadsMax) this.#works.delete(this.#works.keys().next().value!);
    this.#works.set(tid, { atNs, isParked: rung === "park", pointer, inAllocator, words });
  }

  has(tid: number): boolean {
    return this.#works.has(tid);
  }

  isParked(tid: number): boolean {
    return this.#works.get(tid)?.isParked === true;
  }

  threadAt(pointer: bigint): number | null {
    for (const [tid, work] of this.#works) if (pointer !== 0n && work.pointer === pointer) return tid;
    return null;
  }

  allocatingWith(at: VirtualAddress): number | null {
    const holders = [...this.#works].filter(([, { inAllocator, words }]) => inAllocator && words.has(at));
    return holders.length === 1 ? holders[0]![0] : null;
  }

  /** The thread whose abandoned frames pointed to a lock, or to the object that it lies in; null where it is not just one. */
  holding(lock: VirtualAddress): number | null {
    const points = (word: bigint): boolean => word <= lock && word > lock - objectBytes;
    const holders = [...this.#works].filter(([, { words }]) => [...words].some(points));
    return holders.length === 1 ? holders[0]![0] : null;
  }
}

function wordsOf({ stack, frames }: ActedOn): Set<bigint> {
  const words = new Set<bigint>();
  const reader = new ByteReader(fromHex(stack.bytes));
  while (reader.left >= wordBytes) words.add(reader.u64());
  for (const { registers } of frames.slice(0, framesMax)) {
    for (const value of registers) if (value !== null) words.add(value);
  }
  return words;
}
