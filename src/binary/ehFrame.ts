// SPDX-License-Identifier: Apache-2.0
/**
 * Finds the frame description entry (FDE) of a code offset in `.eh_frame`. Gets the file's bytes, gives decoded entries.
 *
 * The sorted table of `.eh_frame_hdr` is searched in place where it is valid, so opening costs nothing; otherwise one
 * pass over `.eh_frame` builds a sorted index. Source: Linux Standard Base 5.0 core, sections 10.6 and 10.7.
 */
import { BinaryError } from "#errors.ts";
import { Cursor, type PointerBases, pointerOmitted } from "./cursor.ts";
import { type FileRanges, type FileView, viewOf } from "./fileBytes.ts";

/** A range of the file and the address (offset) at which it is loaded. */
export type FileRange = { readonly position: number; readonly offset: number; readonly lengthBytes: number };

export type Cie = {
  readonly codeAlign: number;
  readonly dataAlign: number;
  /** DWARF number of the column that holds the return address. */
  readonly returnColumn: number;
  readonly pointerEncoding: number;
  readonly lsdaEncoding: number;
  /** True where FDEs carry a length-prefixed augmentation ("z"). */
  readonly augmented: boolean;
  /** True for the frame of a signal trampoline ("S"): what it restores is an interrupted pc, not a return address. */
  readonly signal: boolean;
  readonly instructions: { readonly from: number; readonly to: number };
};

export type Fde = {
  /** First code offset of the entry, and the one after its last. */
  readonly start: number;
  readonly end: number;
  readonly cie: Cie;
  readonly instructions: { readonly from: number; readonly to: number };
  /** Offset of the language-specific table, null where the function has none. */
  readonly lsda: number | null;
};

/** Decoded entries kept; the table is emptied when it is full, since entries are cheap to decode again. */
const cachedEntriesMax = 1_024;
/** Augmentation strings seen in practice have at most 6 characters. */
const augmentationBytesMax = 16;
const headerEncodings = { address: 0x1b, count: 0x03, table: 0x3b };

export class FrameTable {
  readonly #fdes = new Map<number, Fde | null>();
  readonly #cies = new Map<number, Cie>();
  #sorted: SortedEntries | null = null;

  constructor(
    readonly bytes: FileRanges,
    readonly view: FileView,
    readonly frames: FileRange | null,
    readonly header: FileRange | null,
    private readonly readWord: (offset: number) => number,
  ) {}

  /** The entry that covers `offset`, or null. @throws BinaryError "binary.ehFrame" where that entry is damaged. */
  find(offset: number): Fde | null {
    const entries = this.#entries();
    const index = lastAtOrBefore(entries, offset);
    if (index < 0) return null;
    const fde = this.#decodeAt(entries.position(index));
    return fde !== null && offset >= fde.start && offset < fde.end ? fde : null;
  }

  /** Number of entries in the index that `find` searches. */
  get count(): number {
    return this.#entries().count;
  }

  /** Start offset of entry `index`, in rising order. */
  startAt(index: number): number {
    return this.#entries().start(index);
  }

  /** Entry `index`, or null where it covers nothing. @throws BinaryError "binary.ehFrame" where it is damaged. */
  entryAt(index: number): Fde | null {
    return this.#decodeAt(this.#entries().position(index));
  }

  /** Index of the last entry that starts at or before `offset`; -1 where there is none. */
  indexOf(offset: number): number {
    return lastAtOrBefore(this.#entries(), offset);
  }

  /** What encoded pointers inside `.eh_frame` are relative to. */
  get bases(): PointerBases {
    const { frames } = this;
    return {
      positionToOffset: frames === null ? 0 : frames.offset - frames.position,
      section: null,
      readWord: this.readWord,
    };
  }

  #entries(): SortedEntries {
    if (this.#sorted !== null) return this.#sorted;
    this.#sorted = headerEntries(this, this.header, this.frames) ?? this.#scan();
    return this.#sorted;
  }

  #scan(): SortedEntries {
    const found: { start: number; position: number }[] = [];
    const { frames } = this;
    if (frames !== null) {
      const end = frames.position + frames.lengthBytes;
      for (const position of entryPositions(this.view, frames.position, end)) {
        const fde = this.#tryDecode(position);
        if (fde !== null) found.push({ start: fde.start, position });
      }
    }
    this.#fdes.clear();
    found.sort((a, b) => a.start - b.start);
    return {
      count: found.length,
      start: (index) => found[index]?.start ?? 0,
      position: (index) => found[index]?.position ?? -1,
    };
  }

  #tryDecode(position: number): Fde | null {
    try {
      return this.#decode(position);
    } catch (error) {
      // One damaged entry must not hide the others; code it would have covered is unwound by other means.
      if (error instanceof BinaryError) return null;
      throw error;
    }
  }

  #decodeAt(position: number): Fde | null {
    const cached = this.#fdes.get(position);
    if (cached !== undefined) return cached;
    if (this.#fdes.size >= cachedEntriesMax) this.#fdes.clear();
    const fde = this.#decode(position);
    this.#fdes.set(position, fde);
    return fde;
  }

  #decode(position: number): Fde | null {
    const { frames } = this;
    if (frames === null) return null;
    const entry = openEntry(this.view, position, frames.position + frames.lengthBytes);
    if (entry === null || entry.id === 0) return null;
    const cie = this.#cie(entry.idPosition - entry.id);
    const { bases } = this;
    const { cursor } = entry;
    const start = cursor.pointer(cie.pointerEncoding, bases);
    const lengthBytes = cursor.pointer(cie.pointerEncoding & 0x0f, bases);
    if (start === 0 || lengthBytes <= 0) return null;
    const lsda = cie.augmented ? readAugmentation(cursor, cie, bases) : null;
    return {
      start,
      end: start + lengthBytes,
      cie,
      instructions: { from: cursor.position, to: cursor.end },
      lsda,
    };
  }

  #cie(position: number): Cie {
    const cached = this.#cies.get(position);
    if (cached !== undefined) return cached;
    if (this.#cies.size >= cachedEntriesMax) this.#cies.clear();
    const cie = decodeCie(this.view, position, this.frames, this.bases);
    this.#cies.set(position, cie);
    return cie;
  }
}

type SortedEntries = {
  readonly count: number;
  readonly start: (index: number) => number;
  readonly position: (index: number) => number;
};

function lastAtOrBefore(entries: SortedEntries, offset: number): number {
  let low = 0;
  let high = entries.count;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (entries.start(middle) <= offset) low = middle + 1;
    else high = middle;
  }
  return low - 1;
}

/** The table of `.eh_frame_hdr`, or null where it is missing, in another encoding, too long or out of order. */
function headerEntries(
  file: { readonly bytes: FileRanges; readonly view: FileView },
  header: FileRange | null,
  frames: FileRange | null,
): SortedEntries | null {
  const { view, bytes } = file;
  if (header === null || frames === null || header.lengthBytes < 12) return null;
  const { position, offset } = header;
  if (position + header.lengthBytes > view.byteLength || view.getUint8(position) !== 1) return null;
  if (view.getUint8(position + 1) !== headerEncodings.address) return null;
  if (view.getUint8(position + 2) !== headerEncodings.count) return null;
  if (view.getUint8(position + 3) !== headerEncodings.table) return null;
  const count = view.getUint32(position + 8, true);
  if (count === 0 || count * 8 > header.lengthBytes - 12) return null;
  // Searched at every stop: held as a whole, which is a hundredth of a file.
  const table = viewOf(bytes.subarray(position + 12, position + 12 + count * 8));
  if (table.byteLength < count * 8) return null;
  for (let at = 8; at < count * 8; at += 8) {
    if (table.getInt32(at, true) < table.getInt32(at - 8, true)) return null;
  }
  const toPosition = frames.position - frames.offset + offset;
  return {
    count,
    start: (index) => offset + table.getInt32(index * 8, true),
    position: (index) => toPosition + table.getInt32(index * 8 + 4, true),
  };
}

/** Address of `.eh_frame` by `.eh_frame_hdr`, for files without section headers; null where it does not say. */
export function framesOffsetFromHeader(view: FileView, header: FileRange): number | null {
  if (header.lengthBytes < 8 || header.position + 8 > view.byteLength) return null;
  if (view.getUint8(header.position) !== 1 || view.getUint8(header.position + 1) !== headerEncodings.address) {
    return null;
  }
  return header.offset + 4 + view.getInt32(header.position + 4, true);
}

type OpenEntry = { readonly cursor: Cursor; readonly id: number; readonly idPosition: number };

/** An entry after its length and id; null at the terminator and for the 64-bit form, which no Linux compiler writes. */
function openEntry(view: FileView, position: number, end: number): OpenEntry | null {
  const length = new Cursor(view, position, end).u32();
  if (length === 0 || length === 0xffffffff) return null;
  const idPosition = position + 4;
  if (idPosition + length > end) {
    throw new BinaryError("binary.ehFrame", "entry is longer than .eh_frame", { position, length, end });
  }
  const cursor = new Cursor(view, idPosition, idPosition + length);
  return { cursor, id: cursor.u32(), idPosition };
}

function* entryPositions(view: FileView, from: number, end: number): Generator<number> {
  let position = from;
  while (position + 4 <= end) {
    const length = view.getUint32(position, true);
    if (length === 0 || length === 0xffffffff || position + 4 + length > end) return;
    yield position;
    position += 4 + length;
  }
}

function decodeCie(view: FileView, position: number, frames: FileRange | null, bases: PointerBases): Cie {
  if (frames === null || position < frames.position) {
    throw new BinaryError("binary.ehFrame", "entry refers to a place before .eh_frame", { position });
  }
  const entry = openEntry(view, position, frames.position + frames.lengthBytes);
  if (entry === null || entry.id !== 0) {
    throw new BinaryError("binary.ehFrame", "entry does not refer to a CIE", { position });
  }
  const { cursor } = entry;
  const version = cursor.u8();
  if (version !== 1 && version !== 3) {
    throw new BinaryError("binary.ehFrame", `CIE version ${version} is not 1 or 3`, { position });
  }
  const augmentation = readText(cursor);
  const codeAlign = cursor.uleb();
  const dataAlign = cursor.sleb();
  const returnColumn = version === 1 ? cursor.u8() : cursor.uleb();
  const facts = readCieAugmentation(cursor, augmentation, bases);
  return { codeAlign, dataAlign, returnColumn, ...facts, instructions: { from: cursor.position, to: cursor.end } };
}

type CieFacts = Pick<Cie, "pointerEncoding" | "lsdaEncoding" | "augmented" | "signal">;

function readCieAugmentation(cursor: Cursor, augmentation: string, bases: PointerBases): CieFacts {
  const facts = { pointerEncoding: 0, lsdaEncoding: pointerOmitted, augmented: false, signal: false };
  if (augmentation === "") return facts;
  if (!augmentation.startsWith("z")) {
    throw new BinaryError("binary.ehFrame", `augmentation ${JSON.stringify(augmentation)} is not known`);
  }
  const lengthBytes = cursor.uleb();
  const end = cursor.position + lengthBytes;
  facts.augmented = true;
  for (const letter of augmentation.slice(1)) {
    if (letter === "R") facts.pointerEncoding = cursor.u8();
    else if (letter === "L") facts.lsdaEncoding = cursor.u8();
    else if (letter === "S") facts.signal = true;
    else if (letter === "P") skipPersonality(cursor, bases);
    // "B": AArch64 return addresses signed with key B; "G": memory tagging. Neither has bytes of its own.
    else if (letter !== "B" && letter !== "G") break;
  }
  cursor.position = Math.min(end, cursor.end);
  if (end > cursor.end) throw new BinaryError("binary.ehFrame", "CIE augmentation passes its end", { end });
  return facts;
}

function skipPersonality(cursor: Cursor, bases: PointerBases): void {
  const encoding = cursor.u8();
  if (encoding !== pointerOmitted) cursor.pointer(encoding & 0x0f, bases);
}

function readAugmentation(cursor: Cursor, cie: Cie, bases: PointerBases): number | null {
  const lengthBytes = cursor.uleb();
  const end = cursor.position + lengthBytes;
  if (end > cursor.end) throw new BinaryError("binary.ehFrame", "FDE augmentation passes its end", { end });
  let lsda: number | null = null;
  if (cie.lsdaEncoding !== pointerOmitted && lengthBytes > 0) {
    const value = cursor.pointer(cie.lsdaEncoding & 0x7f, bases);
    lsda = value === 0 ? null : value;
  }
  cursor.position = end;
  return lsda;
}

function readText(cursor: Cursor): string {
  let text = "";
  for (let byte = cursor.u8(); byte !== 0; byte = cursor.u8()) {
    if (text.length === augmentationBytesMax) {
      throw new BinaryError("binary.ehFrame", "augmentation string is too long", { position: cursor.position });
    }
    text += String.fromCharCode(byte);
  }
  return text;
}
