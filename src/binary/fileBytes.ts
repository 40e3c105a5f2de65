// SPDX-License-Identifier: Apache-2.0
/**
 * The bytes of a file as decoders read them: all in memory, or page by page from where they are kept.
 *
 * `PagedBytes` holds a few pages only: a program's code and tables are tens of megabytes, of which a fault looks at some
 * kilobytes. A page that is not held costs one read (some 3 µs from the page cache). Ranges longer than a page are read
 * and not held. Where a read fails, numbers are out of range (RangeError, as beyond the end) and ranges are empty.
 */

/** Read only. `DataView`'s own reading, with the range of bytes that it lacks. */
export type FileView = Pick<
  DataView,
  | "byteLength"
  | "getUint8"
  | "getInt8"
  | "getUint16"
  | "getInt16"
  | "getUint32"
  | "getInt32"
  | "getBigUint64"
  | "getBigInt64"
>;

/** Ranges of a file: a view or a copy, shorter where the file ends. Not to be written. */
export type FileRanges = Pick<Uint8Array, "length" | "subarray">;

const pageBytes = 4_096;
/** Held for each file. */
const pagesMax = 24;

type Page = { readonly at: number; readonly bytes: Uint8Array; readonly view: DataView };

export class PagedBytes implements FileView {
  readonly #pages = new Map<number, Page>();
  #last: Page = { at: -1, bytes: new Uint8Array(), view: viewOf(new Uint8Array()) };

  /** `read` gives so many bytes from that position, fewer at the end of the file, null where it cannot. */
  constructor(
    readonly byteLength: number,
    private readonly read: (position: number, lengthBytes: number) => Uint8Array | null,
  ) {}

  get length(): number {
    return this.byteLength;
  }

  subarray(from = 0, to = this.byteLength): Uint8Array {
    const end = Math.min(to, this.byteLength);
    if (!(from >= 0 && from < end)) return new Uint8Array();
    if (end - from > pageBytes) return this.read(from, end - from) ?? new Uint8Array();
    const first = this.#page(from);
    const start = from - first.at;
    if (end <= first.at + pageBytes) return first.bytes.subarray(start, end - first.at);
    const rest = this.#page(first.at + pageBytes);
    return Buffer.concat([first.bytes.subarray(start), rest.bytes.subarray(0, end - rest.at)]);
  }

  getUint8(at: number): number {
    const { view, inside } = this.#place(at, 1);
    return view.getUint8(inside);
  }
  getInt8(at: number): number {
    const { view, inside } = this.#place(at, 1);
    return view.getInt8(inside);
  }
  getUint16(at: number, littleEndian?: boolean): number {
    const { view, inside } = this.#place(at, 2);
    return view.getUint16(inside, littleEndian);
  }
  getInt16(at: number, littleEndian?: boolean): number {
    const { view, inside } = this.#place(at, 2);
    return view.getInt16(inside, littleEndian);
  }
  getUint32(at: number, littleEndian?: boolean): number {
    const { view, inside } = this.#place(at, 4);
    return view.getUint32(inside, littleEndian);
  }
  getInt32(at: number, littleEndian?: boolean): number {
    const { view, inside } = this.#place(at, 4);
    return view.getInt32(inside, littleEndian);
  }
  getBigUint64(at: number, littleEndian?: boolean): bigint {
    const { view, inside } = this.#place(at, 8);
    return view.getBigUint64(inside, littleEndian);
  }
  getBigInt64(at: number, littleEndian?: boolean): bigint {
    const { view, inside } = this.#place(at, 8);
    return view.getBigInt64(inside, littleEndian);
  }

  /** A view in which the number lies whole: of its page, or of itself where it lies in two. */
  #place(at: number, lengthBytes: number): { readonly view: DataView; readonly inside: number } {
    if (!(at >= 0)) throw new RangeError("Out of bounds access");
    const page = this.#page(at);
    const inside = at - page.at;
    if (inside + lengthBytes <= pageBytes) return { view: page.view, inside };
    return { view: viewOf(this.subarray(at, at + lengthBytes)), inside: 0 };
  }

  #page(position: number): Page {
    const at = position - (position % pageBytes);
    if (this.#last.at === at) return this.#last;
    this.#last = this.#pages.get(at) ?? this.#fill(at);
    return this.#last;
  }

  /** The page that was read first makes room: those that are asked for again come back soon, and what they gave is kept by others. */
  #fill(at: number): Page {
    const bytes = this.read(at, Math.min(pageBytes, Math.max(0, this.byteLength - at))) ?? new Uint8Array();
    const page = { at, bytes, view: viewOf(bytes) };
    if (this.#pages.size >= pagesMax) this.#pages.delete(this.#pages.keys().next().value!);
    this.#pages.set(at, page);
    return page;
  }
}

export const viewOf = (bytes: Uint8Array): DataView => new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
