// SPDX-License-Identifier: Apache-2.0
/**
 * Picks up a stack that was lost on the way out: return addresses were overwritten, or it is deeper than anybody walks.
 *
 * Gets the frames up to there and the spine that the thread must still be standing on; gives the outer frames too, where a
 * return address is found from which the code leads to that spine. Only the outermost frame above the spine may then be
 * abandoned, and only where all registers were found that the spine uses: nearer ones may be left over from earlier calls.
 * Limits: 64 KiB of stack, 64 frames. Runs while the thread is stopped.
 */
import { callingConvention } from "#binary/callingConvention.ts";
import type { CodeMap } from "#binary/codeMap.ts";
import type { ReadMemory } from "#binary/stackWindow.ts";
import { unwind } from "#binary/unwind.ts";
import type { Unwinding, UnwoundFrame } from "#binary/unwindTypes.ts";
import { address, type Registers } from "#fault.ts";
import { type SpineFrame, sameActivation } from "./spines.ts";

const searchBytesMax = 65_536;
const framesMax = 64;
const slotBytes = 8;

export function pickUp(
  torn: Unwinding,
  spine: readonly SpineFrame[],
  framesOf: (frames: readonly UnwoundFrame[]) => readonly SpineFrame[],
  map: CodeMap,
  read: ReadMemory,
): readonly UnwoundFrame[] {
  if (torn.end === "outermost" || firstOf(spine, framesOf(torn.frames)) >= 0) return torn.frames;
  const outer = findOuter(torn.frames, spine, framesOf, map, read);
  if (outer === null) return torn.frames;
  const begin = firstOf(spine, framesOf(outer));
  const loop = outer[begin]!;
  const isWhole = usedBy(outer.slice(begin), map).every((register) => loop.registers[register] != null);
  const kept = isWhole ? begin - 1 : begin;
  return [
    ...torn.frames.with(-1, { ...torn.frames.at(-1)!, cfa: null }),
    ...outer.map((frame, index) => (index < kept ? { ...frame, cfa: null } : frame)),
  ].with(torn.frames.length + begin, isWhole ? { ...loop, registers: filled(loop, torn.frames[0]!) } : loop);
}

/**
 * What these functions save at their start, because they use it; all, where it is not known of one of them. Only the
 * program's own count: the libraries outside them started the thread, and wait for its end.
 */
function usedBy(frames: readonly UnwoundFrame[], map: CodeMap): readonly number[] {
  const { calleeSaved } = callingConvention[map.architecture];
  const used = new Set<number>();
  for (const { lookup, module } of frames) {
    if (module !== frames[0]!.module) break;
    const place = map.find(lookup);
    const row = place?.image.rowAt(place.offset);
    if (row == null) return calleeSaved;
    for (const { register, kind } of row.rules)
      if (kind === "offset" && calleeSaved.includes(register)) used.add(register);
  }
  return [...used];
}

/** What nobody uses may stay as it is. */
const filled = (frame: UnwoundFrame, stopped: UnwoundFrame): Registers =>
  frame.registers.map((value, register) => value ?? stopped.registers[register] ?? null);

/** The frames outside the nearest return address that leads to the spine. */
function findOuter(
  inner: readonly UnwoundFrame[],
  spine: readonly SpineFrame[],
  framesOf: (frames: readonly UnwoundFrame[]) => readonly SpineFrame[],
  map: CodeMap,
  read: ReadMemory,
): readonly UnwoundFrame[] | null {
  const convention = callingConvention[map.architecture];
  const last = inner.at(-1)!;
  const lost = Number(last.cfa ?? last.registers[convention.sp] ?? 0n);
  const [nearest, furthest] = [spine[0]?.cfa, spine.at(-1)?.cfa];
  if (lost === 0 || nearest == null || furthest == null) return null;
  const from = Math.max(lost, Number(nearest) - searchBytesMax);
  const bytes = read(address(BigInt(from)), Math.min(searchBytesMax, Number(furthest) - from));
  const words = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  for (
    let place = (slotBytes - (from % slotBytes)) % slotBytes;
    place + slotBytes <= bytes.length;
    place += slotBytes
  ) {
    const word = words.getBigUint64(place, true);
    if (!map.isExecutable(Number(word)) || map.callBefore(Number(word)) === null) continue;
    const registers: (bigint | null)[] = new Array(convention.names.length).fill(null);
    registers[convention.pc] = word;
    registers[convention.sp] = BigInt(from + place + slotBytes);
    const { frames } = unwind(registers satisfies Registers, read, map, framesMax, { isReturnAddress: true });
    if (firstOf(spine, framesOf(frames)) >= 0) return frames;
  }
  return null;
}

const firstOf = (spine: readonly SpineFrame[], frames: readonly SpineFrame[]): number =>
  frames.findIndex((_, index) => spine.some((_known, place) => sameActivation(spine, place, frames, index)));
