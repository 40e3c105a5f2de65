// SPDX-License-Identifier: Apache-2.0
/**
 * How often small numbers occur in the memory that a stopped thread's work reaches. Gets registers and stack of the
 * frames above the spine, and a memory reader; gives counts for the numbers asked for.
 *
 * Three depths: the registers and stack words themselves, the objects they point to, and the objects those point to.
 * A number's commonness is counted where it has nothing to do with the request: in the stack of earlier calls and of the
 * spine, and in the neighbourhood of the same objects.
 * Limits: 16 KiB of stack, 96 near objects of 256 bytes, 384 far ones of 96 bytes, or as few as is asked for. Runs while the
 * thread is stopped.
 */
import { address, type Reach, type VirtualAddress } from "#fault.ts";

const stackBytesMax = 16_384;
/** How many objects are looked at. */
export type ReachLimits = { readonly near: number; readonly far: number };
export const reachLimits: ReachLimits = { near: 96, far: 384 };
const nearBytes = 256;
const farBytes = 96;
/** Memory on both sides of a near object that stands for "anything". */
const neighbourBytes = 512;
/** Stack of earlier calls below the stack pointer, and that of the spine above the request. */
const deadStackBytes = 16_384n;
const redZoneBytes = 128n;
const pointerAlignment = 8n;

export type ReachQuery = {
  /** Register values of the frames above the spine and of the innermost spine frame. */
  readonly registers: readonly bigint[];
  readonly stackFrom: VirtualAddress;
  readonly stackTo: VirtualAddress;
  readonly read: (from: VirtualAddress, lengthBytes: number) => Uint8Array;
  /** True for addresses of objects worth looking at: mapped, writable, not this stack. */
  readonly isObject: (at: number) => boolean;
  readonly limits?: ReachLimits;
};

export type ReachAnswer = {
  readonly reach: ReadonlyMap<number, Reach>;
  readonly commonness: ReadonlyMap<number, { direct: number; near: number }>;
};

export function reachOf(numbers: readonly number[], query: ReachQuery): ReachAnswer {
  const counts = new Map(numbers.map((number) => [number, { direct: 0, near: 0, far: 0 }]));
  const count =
    (depth: keyof Reach) =>
    (word: number): void => {
      const found = counts.get(word);
      if (found !== undefined) found[depth] += 1;
    };
  const { limits = reachLimits } = query;
  const stack = query.read(
    query.stackFrom,
    Math.min(stackBytesMax, Math.max(0, Number(query.stackTo - query.stackFrom))),
  );
  for (const value of query.registers) if (value <= 0xffff_ffffn) count("direct")(Number(value));
  words(stack, count("direct"));
  const near = pointersIn([...query.registers, ...quads(stack)], query.isObject, limits.near);
  const nearObjects = near.map((at) => query.read(address(at), nearBytes));
  for (const bytes of nearObjects) words(bytes, count("near"));
  const inside = nearObjects.flatMap((bytes) => [...quads(bytes)]);
  for (const at of pointersIn(inside, query.isObject, limits.far))
    words(query.read(address(at), farBytes), count("far"));
  return { reach: counts, commonness: commonnessOf(numbers, near, query) };
}

function commonnessOf(
  numbers: readonly number[],
  near: readonly bigint[],
  { read, stackFrom, stackTo }: ReachQuery,
): Map<number, { direct: number; near: number }> {
  const stacks = [
    read(address(stackFrom - deadStackBytes - redZoneBytes), Number(deadStackBytes)),
    read(stackTo, Number(deadStackBytes)),
  ];
  const heaps = near.flatMap((at) => [
    read(address(at - BigInt(neighbourBytes)), neighbourBytes),
    read(address(at + BigInt(nearBytes)), neighbourBytes),
  ]);
  const [direct, heap] = [sharesOf(numbers, stacks), sharesOf(numbers, heaps)];
  return new Map(numbers.map((number) => [number, { direct: direct.get(number)!, near: heap.get(number)! }]));
}

/** Of all words in `blocks`, the share that each number has. */
function sharesOf(numbers: readonly number[], blocks: readonly Uint8Array[]): Map<number, number> {
  const seen = new Map(numbers.map((number) => [number, 0]));
  let total = 0;
  for (const block of blocks) {
    words(block, (word) => {
      total += 1;
      const before = seen.get(word);
      if (before !== undefined) seen.set(word, before + 1);
    });
  }
  return new Map([...seen].map(([number, times]) => [number, total === 0 ? 0 : times / total]));
}

/** Distinct aligned addresses of objects, in order of appearance. */
function pointersIn(values: Iterable<bigint>, isObject: (at: number) => boolean, limit: number): bigint[] {
  const found = new Set<bigint>();
  for (const value of values) {
    if (found.size >= limit) break;
    if (value % pointerAlignment === 0n && isObject(Number(value))) found.add(value);
  }
  return [...found];
}

function words(bytes: Uint8Array, visit: (word: number) => void): void {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  for (let offset = 0; offset + 4 <= bytes.length; offset += 4) visit(view.getUint32(offset, true));
}

function quads(bytes: Uint8Array): bigint[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return Array.from({ length: bytes.length >> 3 }, (_, index) => view.getBigUint64(index * 8, true));
}
