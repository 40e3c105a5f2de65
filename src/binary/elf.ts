// SPDX-License-Identifier: Apache-2.0
/**
 * One ELF file as the fault path sees it: build-id, ranges, unwind rows and symbols by offset. Gets the file's bytes.
 *
 * Opening reads headers only; frame tables, symbols and relocations are read when first asked for, and rows are kept for
 * each pc that was asked for. Works without section headers, by PT_DYNAMIC and PT_GNU_EH_FRAME.
 * Source: System V gABI; Linux Standard Base 5.0 core, chapter 10.
 */
import { toHex } from "#bytes.ts";
import { BinaryError } from "#errors.ts";
import type { Architecture } from "#fault.ts";
import { type Row, rowAt } from "./cfi.ts";
import { type Fde, type FileRange, FrameTable, framesOffsetFromHeader } from "./ehFrame.ts";
import {
  type ElfLayout,
  parseLayout,
  positionOf,
  rangeAt,
  readText,
  readWord,
  sectionNamed,
  segmentFlags,
  segmentTypes,
} from "./elfLayout.ts";
import { type FunctionSymbol, openSymbols, type SymbolIndex } from "./elfSymbols.ts";
import type { PagedBytes } from "./fileBytes.ts";
import { readSlots, type Slots } from "./slots.ts";

/** Rows kept for each image. A program has some hundred return addresses that ever show up on a stopped stack. */
const cachedRowsMax = 4_096;
const notesMax = 1_024;

/** @throws BinaryError "binary.elf" naming what is wrong, "binary.architecture" for a machine we do not guard. */
export function parseElf(bytes: Uint8Array | PagedBytes): ElfImage {
  try {
    return new ElfImage(parseLayout(bytes));
  } catch (error) {
    throw asBinaryError(error);
  }
}

export class ElfImage {
  readonly architecture: Architecture;
  /** GNU build-id in hex, "" where there is none. */
  readonly buildId: string;
  /** Program interpreter (dynamic linker), null for libraries and static programs. */
  readonly interpreter: string | null;
  /** Offsets that are read-only once relocation is done. */
  readonly relro: { readonly start: number; readonly end: number } | null;
  /** True for a Go runtime: it lives by fatal signals. */
  readonly ownsSignals: boolean;
  readonly frames: FrameTable;
  readonly #rows = new Map<number, Row | null>();
  #symbols: SymbolIndex | null = null;
  /** Few names are ever asked for, each by every process. */
  readonly #named = new Map<string, number | null>();
  #slots: Slots | null = null;

  constructor(readonly layout: ElfLayout) {
    this.architecture = layout.architecture;
    this.buildId = readBuildId(layout);
    this.interpreter = readInterpreter(layout);
    this.relro = readRelro(layout);
    this.ownsSignals = layout.sections.some((section) => section.name.endsWith(".gopclntab"));
    this.frames = openFrames(layout);
  }

  /** The unwind row for the instruction at `offset`; null where no call-frame information covers it or it is damaged. */
  rowAt(offset: number): Row | null {
    const cached = this.#rows.get(offset);
    if (cached !== undefined) return cached;
    if (this.#rows.size >= cachedRowsMax) this.#rows.clear();
    const row = this.#decodeRow(offset);
    this.#rows.set(offset, row);
    return row;
  }

  /** The frame description entry around `offset`, null where there is none or it is damaged. */
  fdeAt(offset: number): Fde | null {
    return recover(() => this.frames.find(offset));
  }

  /** The function symbol that covers `offset`; null where none does. */
  symbolAt(offset: number): FunctionSymbol | null {
    return this.#functions().at(offset);
  }

  /** Where the plain function of that name begins, by the file's own addresses; null where none is named. */
  functionNamed(name: string): number | null {
    const known = this.#named.get(name);
    if (known !== undefined) return known;
    const found = this.#functions().named(name);
    this.#named.set(name, found);
    return found;
  }

  #functions(): SymbolIndex {
    this.#symbols ??= recover(() => openSymbols(this.layout)) ?? { count: 0, at: () => null, named: () => null };
    return this.#symbols;
  }

  /** Slots that the dynamic linker fills with addresses of functions. */
  get slots(): Slots {
    this.#slots ??= recover(() => readSlots(this.layout)) ?? new Map();
    return this.#slots;
  }

  /** Up to `lengthBytes` of the file as loaded at `offset`; shorter at the end of a segment, empty outside. */
  codeAt(offset: number, lengthBytes: number): Uint8Array {
    const range = rangeAt(this.layout, offset, lengthBytes);
    if (range === null) return new Uint8Array();
    return this.layout.bytes.subarray(range.position, range.position + range.lengthBytes);
  }

  /** True where the file says that the byte at `offset` is loaded writable and stays so after relocation. */
  staysWritable(offset: number): boolean {
    const { relro } = this;
    if (relro !== null && offset >= relro.start && offset < relro.end) return false;
    return this.layout.segments.some(
      (segment) =>
        segment.type === segmentTypes.load &&
        (segment.flags & segmentFlags.write) !== 0 &&
        offset >= segment.offset &&
        offset < segment.offset + segment.memoryBytes,
    );
  }

  #decodeRow(offset: number): Row | null {
    return recover(() => {
      const fde = this.frames.find(offset);
      return fde === null ? null : rowAt(this.frames, fde, offset);
    });
  }
}

/** Runs a decoder over damaged tables: the answer is then null, and the unwinder goes on by other means. */
function recover<T>(decode: () => T): T | null {
  try {
    return decode();
  } catch (error) {
    if (error instanceof BinaryError || error instanceof RangeError) return null;
    throw error;
  }
}

function asBinaryError(error: unknown): unknown {
  if (!(error instanceof RangeError)) return error;
  return new BinaryError("binary.elf", "a header points outside the file", {}, error);
}

function openFrames(layout: ElfLayout): FrameTable {
  const segment = layout.segments.find((candidate) => candidate.type === segmentTypes.ehFrameHeader);
  const header = segment === undefined ? null : rangeAt(layout, segment.offset, segment.memoryBytes);
  const section = sectionNamed(layout, ".eh_frame");
  const frames = section ?? framesByHeader(layout, header);
  return new FrameTable(layout.bytes, layout.view, frames, header, (offset) => {
    const position = positionOf(layout, offset);
    if (position < 0 || position + 8 > layout.bytes.length) {
      throw new BinaryError("binary.ehFrame", "indirect pointer outside the file", { offset });
    }
    return readWord(layout.view, position);
  });
}

/** Without section headers `.eh_frame` ends at its terminator, so the rest of the segment is given as its range. */
function framesByHeader(layout: ElfLayout, header: FileRange | null): FileRange | null {
  const offset = header === null ? null : framesOffsetFromHeader(layout.view, header);
  return offset === null ? null : rangeAt(layout, offset);
}

function readBuildId(layout: ElfLayout): string {
  for (const segment of layout.segments) {
    if (segment.type !== segmentTypes.note) continue;
    const found = buildIdIn(layout, segment.position, segment.position + segment.fileBytes);
    if (found !== "") return found;
  }
  return "";
}

function buildIdIn(layout: ElfLayout, from: number, end: number): string {
  const { bytes, view } = layout;
  let at = from;
  for (let count = 0; count < notesMax && at + 12 <= end; count += 1) {
    const nameBytes = view.getUint32(at, true);
    const contentBytes = view.getUint32(at + 4, true);
    const content = at + 12 + Math.ceil(nameBytes / 4) * 4;
    if (content + contentBytes > end) return "";
    const isGnu = nameBytes === 4 && readText(bytes, at + 12, at + 16) === "GNU";
    if (isGnu && view.getUint32(at + 8, true) === 3) return toHex(bytes.subarray(content, content + contentBytes));
    at = content + Math.ceil(contentBytes / 4) * 4;
  }
  return "";
}

function readInterpreter(layout: ElfLayout): string | null {
  const segment = layout.segments.find((candidate) => candidate.type === segmentTypes.interpreter);
  if (segment === undefined) return null;
  return readText(layout.bytes, segment.position, segment.position + segment.fileBytes);
}

function readRelro(layout: ElfLayout): { start: number; end: number } | null {
  const segment = layout.segments.find((candidate) => candidate.type === segmentTypes.relro);
  return segment === undefined ? null : { start: segment.offset, end: segment.offset + segment.memoryBytes };
}
