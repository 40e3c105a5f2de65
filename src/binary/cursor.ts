// SPDX-License-Identifier: Apache-2.0
/**
 * Reads the variable-length numbers and encoded pointers of DWARF out of a range of a file. Every read is checked.
 *
 * Numbers come back as doubles where DWARF means offsets and register numbers; one that is not exact (2^53 and up) is
 * refused. Source: DWARF 5, section 7.6; Linux Standard Base 5.0 core, section 10.5.1 (pointer encodings).
 */
import { BinaryError } from "#errors.ts";
import type { FileView } from "./fileBytes.ts";

/** A LEB128 number of 64 bits has at most 10 bytes. */
const lebBytesMax = 10;
const exactLimit = 2 ** 53;

/** What encoded pointers are relative to. All are offsets (addresses in the file). */
export type PointerBases = {
  /** Address of a byte minus its position in the file. */
  readonly positionToOffset: number;
  /** For datarel: start of `.eh_frame_hdr`, or of the global offset table; null where not known. */
  readonly section: number | null;
  /** Reads a pointer-sized word at an offset, for indirect encodings. */
  readonly readWord: (offset: number) => number;
};

/** DW_EH_PE_omit. */
export const pointerOmitted = 0xff;

export class Cursor {
  constructor(
    readonly view: FileView,
    public position: number,
    readonly end: number,
  ) {
    if (!(position >= 0 && position <= end && end <= view.byteLength)) {
      throw overrun(position, end);
    }
  }

  get done(): boolean {
    return this.position >= this.end;
  }

  u8(): number {
    return this.view.getUint8(this.#take(1));
  }
  i8(): number {
    return this.view.getInt8(this.#take(1));
  }
  u16(): number {
    return this.view.getUint16(this.#take(2), true);
  }
  i16(): number {
    return this.view.getInt16(this.#take(2), true);
  }
  u32(): number {
    return this.view.getUint32(this.#take(4), true);
  }
  i32(): number {
    return this.view.getInt32(this.#take(4), true);
  }
  u64(): bigint {
    return this.view.getBigUint64(this.#take(8), true);
  }
  i64(): bigint {
    return this.view.getBigInt64(this.#take(8), true);
  }

  /** @throws BinaryError "binary.ehFrame" where the number is longer than 64 bits or not exact. */
  uleb(): number {
    const first = this.u8();
    return first < 0x80 ? first : exact(this.#leb(first, false));
  }
  sleb(): number {
    const first = this.u8();
    if (first < 0x80) return first < 0x40 ? first : first - 0x80;
    return exact(this.#leb(first, true));
  }
  uleb64(): bigint {
    return this.#leb(this.u8(), false);
  }
  sleb64(): bigint {
    return this.#leb(this.u8(), true);
  }

  skip(lengthBytes: number): void {
    this.#take(lengthBytes);
  }

  /** A copy of the next `lengthBytes`. */
  block(lengthBytes: number): Uint8Array {
    const from = this.#take(lengthBytes);
    return Uint8Array.from({ length: lengthBytes }, (_, index) => this.view.getUint8(from + index));
  }

  /** @throws BinaryError "binary.ehFrame" for an encoding that no Linux tool writes. */
  pointer(encoding: number, bases: PointerBases): number {
    const at = this.position;
    const value = this.#encodedValue(encoding & 0x0f);
    if (value === 0 && (encoding & 0x70) !== 0x30) return 0;
    const absolute = value + pointerBase(encoding & 0x70, at, bases);
    return (encoding & 0x80) === 0 ? absolute : bases.readWord(absolute);
  }

  #encodedValue(format: number): number {
    switch (format) {
      case 0x00:
      case 0x04:
        return exact(this.u64());
      case 0x01:
        return this.uleb();
      case 0x02:
        return this.u16();
      case 0x03:
        return this.u32();
      case 0x09:
        return this.sleb();
      case 0x0a:
        return this.i16();
      case 0x0b:
        return this.i32();
      case 0x0c:
        return exact(this.i64());
      default:
        throw new BinaryError("binary.ehFrame", `pointer format ${format} is not defined`, { position: this.position });
    }
  }

  #leb(first: number, signed: boolean): bigint {
    let value = BigInt(first & 0x7f);
    let byte = first;
    let length = 1;
    for (; byte >= 0x80; length += 1) {
      if (length === lebBytesMax) {
        throw new BinaryError("binary.ehFrame", "LEB128 number longer than 64 bits", { position: this.position });
      }
      byte = this.u8();
      value |= BigInt(byte & 0x7f) << BigInt(7 * length);
    }
    if (!signed) return BigInt.asUintN(64, value);
    return BigInt.asIntN(64, (byte & 0x40) === 0 ? value : value - (1n << BigInt(7 * length)));
  }

  #take(lengthBytes: number): number {
    const from = this.position;
    if (!(lengthBytes >= 0) || from + lengthBytes > this.end) throw overrun(from + lengthBytes, this.end);
    this.position = from + lengthBytes;
    return from;
  }
}

function pointerBase(application: number, at: number, bases: PointerBases): number {
  if (application === 0x00) return 0;
  if (application === 0x10) return at + bases.positionToOffset;
  if (application === 0x30 && bases.section !== null) return bases.section;
  throw new BinaryError("binary.ehFrame", `pointer base 0x${application.toString(16)} is not known here`, { at });
}

function exact(value: bigint): number {
  const number = Number(value);
  if (Math.abs(number) < exactLimit) return number;
  throw new BinaryError("binary.ehFrame", "number too large for an offset", { value });
}

const overrun = (position: number, end: number): BinaryError =>
  new BinaryError("binary.ehFrame", "read passes the end of its range", { position, end });
