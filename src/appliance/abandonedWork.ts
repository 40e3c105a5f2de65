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

/** The part of a report that matters here. */
export type ActedOn = Pick<FaultReport, "tid" | "architecture" | "registers" | "inAllocator" | "stack" | "frames">;

type Work = {
  readonly atNs: number;
  readonly isParked: boolean;
  readonly pointer: bigint | null;
  /** Words of the abandoned frames, where they were inside the allocator; else none. */
  readonly words: ReadonlySet<bigint>;
};

export class AbandonedWorks implements AbandonedWork {
  readonly #works = new Map<number, Work>();

  get lastNs(): number {
    return Math.max(...[...this.#works.values()].map(({ atNs }) => atNs));
  }

  note(report: ActedOn, rung: Rung, atNs: number): void {
    const { tid } = report;
    const pointer = report.registers[threadPointerNumber[report.architecture]] ?? null;
    const words = report.inAllocator ? wordsOf(report) : new Set<bigint>();
    this.#works.delete(tid);
    if (this.#works.size >= threadsMax) this.#works.delete(this.#works.keys().next().value!);
    this.#works.set(tid, { atNs, isParked: rung === "park", pointer, words });
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
    const holders = [...this.#works].filter(([, { words }]) => words.has(at));
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
