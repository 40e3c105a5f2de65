// SPDX-License-Identifier: Apache-2.0
/**
 * Lists the direct calls in the code of a file and the places that branches can go to. Gets an image, works in steps.
 *
 * x86-64 is not disassembled: every byte is taken for the start of an instruction. A call is believed only where it goes to
 * the start of a function or a linkage stub (a chance of 1 in 100,000 for a stray one); branch targets are a superset.
 * Limits: calls; code as long as the file. Source: Intel SDM volume 2, CALL, JMP, Jcc; Arm ARM C6.2, B, B.cond, CBZ, TBZ, BL.
 */
import { armBranchDistance } from "./callPattern.ts";
import type { ElfImage } from "./elf.ts";
import { type Segment, segmentFlags, segmentTypes } from "./elfLayout.ts";
import { viewOf } from "./fileBytes.ts";
import { instructionBytesMax } from "./instructionSet.ts";
import { stubSlot } from "./plt.ts";

/** MariaDB, the largest program looked at, has 0.9 million. */
const callsMax = 4_000_000;

/** A set of code offsets in one segment, one bit for each byte. */
class OffsetSet {
  readonly #bits: Uint32Array;

  constructor(
    readonly start: number,
    readonly lengthBytes: number,
  ) {
    this.#bits = new Uint32Array(Math.ceil(lengthBytes / 32));
  }

  add(offset: number): void {
    const index = offset - this.start;
    if (index >= 0 && index < this.lengthBytes) this.#bits[index >>> 5]! |= 1 << (index & 31);
  }

  has(offset: number): boolean {
    const index = offset - this.start;
    return index >= 0 && index < this.lengthBytes && ((this.#bits[index >>> 5]! >>> (index & 31)) & 1) === 1;
  }
}

export class CallScan {
  /** Return address and callee of each call, as offsets, in pairs. */
  readonly calls: number[] = [];
  readonly #texts: readonly { readonly segment: Segment; readonly targets: OffsetSet; readonly starts: OffsetSet }[];
  readonly #stubs = new Map<number, boolean>();
  #text = 0;
  #done = 0;
  #startsIndex = 0;

  constructor(private readonly image: ElfImage) {
    // Segments of a sane file do not overlap, so together they hold no more code than the file has bytes.
    let left = image.layout.bytes.length;
    const texts = [];
    for (const segment of image.layout.segments) {
      const isCode = segment.type === segmentTypes.load && (segment.flags & segmentFlags.execute) !== 0;
      if (!isCode || segment.fileBytes > left) continue;
      left -= segment.fileBytes;
      const set = (): OffsetSet => new OffsetSet(segment.offset, segment.fileBytes);
      texts.push({ segment, targets: set(), starts: set() });
    }
    this.#texts = texts;
  }

  /** Goes on for about `stepBytes` of code. False once all is done. */
  step(stepBytes: number): boolean {
    if (this.#startsIndex < this.image.frames.count) return this.#listStarts(stepBytes);
    const text = this.#texts[this.#text];
    if (text === undefined) return false;
    const from = this.#done;
    const to = Math.min(text.segment.fileBytes, from + stepBytes - (stepBytes % 4));
    if (this.image.architecture === "x86_64") this.#scanX86(text.segment, text.targets, from, to);
    else this.#scanArm(text.segment, text.targets, from, to);
    this.#done = to;
    if (to < text.segment.fileBytes) return true;
    this.#text += 1;
    this.#done = 0;
    return this.#text < this.#texts.length;
  }

  isFunctionStart(offset: number): boolean {
    return this.#texts.some(({ starts }) => starts.has(offset));
  }

  isBranchTarget(offset: number): boolean {
    return this.#texts.some(({ targets }) => targets.has(offset));
  }

  #listStarts(stepBytes: number): boolean {
    const { frames } = this.image;
    const to = Math.min(frames.count, this.#startsIndex + Math.max(1, stepBytes >>> 4));
    for (; this.#startsIndex < to; this.#startsIndex += 1) {
      const start = frames.startAt(this.#startsIndex);
      for (const text of this.#texts) text.starts.add(start);
    }
    return true;
  }

  #scanX86(segment: Segment, targets: OffsetSet, from: number, to: number): void {
    const bytes = this.#code(segment, from, to);
    const view = viewOf(bytes);
    const base = segment.offset + from;
    const last = bytes.length - 5;
    for (let at = 0; at < to - from && at <= last; at += 1) {
      const opcode = bytes[at]!;
      if (opcode === 0xe8) this.#call(base + at + 5, base + at + 5 + view.getInt32(at + 1, true));
      else if (opcode === 0xe9) targets.add(base + at + 5 + view.getInt32(at + 1, true));
      else if (opcode === 0xeb || (opcode >= 0x70 && opcode <= 0x7f)) {
        targets.add(base + at + 2 + view.getInt8(at + 1));
      } else if (opcode === 0x0f && (bytes[at + 1]! & 0xf0) === 0x80 && at < last) {
        targets.add(base + at + 6 + view.getInt32(at + 2, true));
      }
    }
  }

  #scanArm(segment: Segment, targets: OffsetSet, from: number, to: number): void {
    const bytes = this.#code(segment, from, to);
    const view = viewOf(bytes);
    const base = segment.offset + from;
    const end = Math.min(to - from, bytes.length) - 3;
    for (let at = 0; at < end; at += 4) {
      const word = view.getUint32(at, true);
      const distance = armBranchDistance(word);
      if (distance !== null) this.#call(base + at + 4, base + at + distance);
      else if (word >>> 26 === 0b000101) targets.add(base + at + ((word << 6) >> 4));
      else if (word >>> 24 === 0x54 || ((word >>> 25) & 0x3f) === 0b011010) {
        targets.add(base + at + (((word << 8) >> 13) << 2));
      } else if (((word >>> 25) & 0x3f) === 0b011011) targets.add(base + at + (((word << 13) >> 18) << 2));
    }
  }

  /** The code of a step, with what an instruction at its end may have behind it. */
  #code({ position, fileBytes }: Segment, from: number, to: number): Uint8Array {
    const end = Math.min(to + instructionBytesMax, fileBytes);
    return this.image.layout.bytes.subarray(position + from, position + end);
  }

  #call(returnOffset: number, target: number): void {
    if (this.calls.length >= callsMax * 2) return;
    if (this.isFunctionStart(target) || this.#isStub(target)) this.calls.push(returnOffset, target);
  }

  #isStub(target: number): boolean {
    const known = this.#stubs.get(target);
    if (known !== undefined) return known;
    const slot = this.#isCode(target) ? stubSlot(this.image, target) : null;
    const isStub = slot !== null && this.image.slots.has(slot);
    if (isStub) this.#stubs.set(target, isStub);
    return isStub;
  }

  #isCode(offset: number): boolean {
    return this.#texts.some(({ segment }) => offset >= segment.offset && offset < segment.offset + segment.fileBytes);
  }
}
