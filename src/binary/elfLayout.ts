// SPDX-License-Identifier: Apache-2.0
/**
 * The outline of a 64-bit ELF file: header, segments, sections, dynamic entries. Gets bytes, gives numbers and ranges.
 *
 * Bytes are hostile: all ranges are cut to the file, tables have limits, a damaged section table counts as none. An
 * "offset" is an address as the file states it (before the load bias); a "position" is an index into the bytes.
 * Source: System V gABI, chapters 4 and 5; psABI supplements for machine numbers.
 */
import { BinaryError } from "#errors.ts";
import type { Architecture } from "#fault.ts";
import type { FileRange } from "./ehFrame.ts";
import { type FileRanges, type FileView, PagedBytes, viewOf } from "./fileBytes.ts";

export type Segment = {
  readonly type: number;
  readonly flags: number;
  readonly position: number;
  readonly offset: number;
  readonly fileBytes: number;
  readonly memoryBytes: number;
};

export type Section = FileRange & { readonly name: string; readonly type: number; readonly entryBytes: number };

export type ElfLayout = {
  readonly bytes: FileRanges;
  readonly view: FileView;
  readonly architecture: Architecture;
  /** `executable`: linked at fixed addresses; `shared`: position independent, executables too. */
  readonly kind: "executable" | "shared";
  readonly entry: number;
  readonly segments: readonly Segment[];
  /** Empty where the file has no usable section headers. */
  readonly sections: readonly Section[];
  /** Values of PT_DYNAMIC by tag; the first of each tag. */
  readonly dynamic: ReadonlyMap<number, number>;
};

export const segmentTypes = {
  load: 1,
  dynamic: 2,
  interpreter: 3,
  note: 4,
  ehFrameHeader: 0x6474e550,
  relro: 0x6474e552,
};
export const segmentFlags = { execute: 1, write: 2, read: 4 };

const segmentsMax = 1_024;
const sectionsMax = 65_535;
const dynamicMax = 4_096;
/** Addresses and sizes at or above this are not of a user program (47-bit and 52-bit address spaces fit). */
const offsetLimit = 2 ** 52;
const machines = new Map<number, string>([
  [3, "32-bit x86"],
  [8, "MIPS"],
  [20, "32-bit PowerPC"],
  [21, "64-bit PowerPC"],
  [22, "S/390"],
  [40, "32-bit Arm"],
  [243, "RISC-V"],
  [258, "LoongArch"],
]);

/** @throws BinaryError "binary.elf", "binary.architecture". */
export function parseLayout(bytes: Uint8Array | PagedBytes): ElfLayout {
  const view = bytes instanceof PagedBytes ? bytes : viewOf(bytes);
  if (bytes.length < 64 || view.getUint32(0, false) !== 0x7f454c46) {
    throw new BinaryError("binary.elf", "not an ELF file: it does not begin with an ELF header", {
      bytes: bytes.length,
    });
  }
  const architecture = readArchitecture(view);
  const type = view.getUint16(16, true);
  if (type !== 2 && type !== 3) {
    throw new BinaryError("binary.elf", `ELF type ${type} is neither an executable nor a shared object`, { type });
  }
  const segments = readSegments(view);
  return {
    bytes,
    view,
    architecture,
    kind: type === 2 ? "executable" : "shared",
    entry: readWord(view, 24),
    segments,
    sections: readSections(bytes, view),
    dynamic: readDynamic(view, segments),
  };
}

/** A 64-bit number as a double, or Infinity where it is not an address or size of a user program. */
export function readWord(view: FileView, position: number): number {
  const value = view.getUint32(position, true) + view.getUint32(position + 4, true) * 2 ** 32;
  return value < offsetLimit ? value : Number.POSITIVE_INFINITY;
}

/** Position of the byte at `offset` in the file, or -1 where no segment brings it from the file. */
export function positionOf(layout: ElfLayout, offset: number): number {
  for (const segment of layout.segments) {
    if (segment.type !== segmentTypes.load) continue;
    const inside = offset - segment.offset;
    if (inside >= 0 && inside < segment.fileBytes) return segment.position + inside;
  }
  return -1;
}

/** The file range that begins at `offset`, at most to the end of its segment; null where nothing is there. */
export function rangeAt(layout: ElfLayout, offset: number, lengthBytes = Number.POSITIVE_INFINITY): FileRange | null {
  for (const segment of layout.segments) {
    const inside = offset - segment.offset;
    if (segment.type !== segmentTypes.load || !(inside >= 0 && inside < segment.fileBytes)) continue;
    const left = segment.fileBytes - inside;
    return { position: segment.position + inside, offset, lengthBytes: Math.min(lengthBytes, left) };
  }
  return null;
}

export const sectionNamed = (layout: ElfLayout, name: string): Section | null =>
  layout.sections.find((section) => section.name === name && section.type !== 8) ?? null;

/** Text up to the next zero byte, at most `charactersMax`. */
export function readText(bytes: FileRanges, position: number, end: number, charactersMax = 1_024): string {
  const last = Math.min(end, position + charactersMax, bytes.length);
  const text = bytes.subarray(position, last);
  const zero = text.indexOf(0);
  return new TextDecoder().decode(zero < 0 ? text : text.subarray(0, zero));
}

function readArchitecture(view: FileView): Architecture {
  const machine = view.getUint16(18, true);
  const name =
    machine === 62 ? "x86-64" : machine === 183 ? "AArch64" : (machines.get(machine) ?? `machine ${machine}`);
  if (view.getUint8(4) !== 2) {
    const what = machine === 62 ? "an x32 program" : `a 32-bit program (${name})`;
    throw new BinaryError("binary.architecture", `${what}: only 64-bit x86 and AArch64 are supported`, { machine });
  }
  if (view.getUint8(5) !== 1 || (machine !== 62 && machine !== 183)) {
    const order = view.getUint8(5) === 1 ? "" : "big-endian ";
    throw new BinaryError("binary.architecture", `a ${order}${name} program: only x86-64 and AArch64 are supported`, {
      machine,
    });
  }
  return machine === 62 ? "x86_64" : "aarch64";
}

function readSegments(view: FileView): readonly Segment[] {
  const table = readWord(view, 32);
  const entryBytes = view.getUint16(54, true);
  const count = view.getUint16(56, true);
  if (count === 0) throw new BinaryError("binary.elf", "no program headers: nothing of it can be loaded");
  if (entryBytes !== 56 || count > segmentsMax || !(table + count * 56 <= view.byteLength)) {
    throw new BinaryError("binary.elf", "program headers are damaged or cut off", { table, count, entryBytes });
  }
  const segments: Segment[] = [];
  for (let index = 0; index < count; index += 1) segments.push(readSegment(view, table + index * 56));
  return segments;
}

function readSegment(view: FileView, at: number): Segment {
  const type = view.getUint32(at, true);
  const position = readWord(view, at + 8);
  const offset = readWord(view, at + 16);
  const fileBytes = readWord(view, at + 32);
  const memoryBytes = readWord(view, at + 40);
  if (type === segmentTypes.load && !Number.isFinite(position + offset + fileBytes + memoryBytes)) {
    throw new BinaryError("binary.elf", "a segment lies outside the address space of a program", { at });
  }
  const left = Math.max(0, view.byteLength - position);
  return {
    type,
    flags: view.getUint32(at + 4, true),
    position: Math.min(position, view.byteLength),
    offset,
    fileBytes: Math.min(fileBytes, left),
    memoryBytes,
  };
}

function readSections(bytes: FileRanges, view: FileView): readonly Section[] {
  const table = readWord(view, 40);
  const count = view.getUint16(60, true);
  const usable = view.getUint16(58, true) === 64 && count > 0 && count < sectionsMax;
  if (table === 0 || !usable || !(table + count * 64 <= view.byteLength)) return [];
  const namesAt = view.getUint16(62, true);
  const names = namesAt < count ? readSection(bytes, view, table + namesAt * 64, null) : null;
  const sections: Section[] = [];
  for (let index = 0; index < count; index += 1) sections.push(readSection(bytes, view, table + index * 64, names));
  return sections;
}

function readSection(bytes: FileRanges, view: FileView, at: number, names: Section | null): Section {
  const position = Math.min(readWord(view, at + 24), view.byteLength);
  const nameAt = view.getUint32(at, true);
  const end = names === null ? 0 : names.position + names.lengthBytes;
  const name = names === null || nameAt >= names.lengthBytes ? "" : readText(bytes, names.position + nameAt, end, 256);
  return {
    name,
    type: view.getUint32(at + 4, true),
    position,
    offset: readWord(view, at + 16),
    lengthBytes: Math.min(readWord(view, at + 32), view.byteLength - position),
    entryBytes: readWord(view, at + 56),
  };
}

function readDynamic(view: FileView, segments: readonly Segment[]): ReadonlyMap<number, number> {
  const entries = new Map<number, number>();
  const segment = segments.find((candidate) => candidate.type === segmentTypes.dynamic);
  if (segment === undefined) return entries;
  const count = Math.min(Math.floor(segment.fileBytes / 16), dynamicMax);
  for (let index = 0; index < count; index += 1) {
    const at = segment.position + index * 16;
    const tag = readWord(view, at);
    if (tag === 0) break;
    if (!entries.has(tag)) entries.set(tag, readWord(view, at + 8));
  }
  return entries;
}
