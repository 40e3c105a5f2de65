// SPDX-License-Identifier: Apache-2.0
/**
 * Bytes: hex, little-endian reads within bounds, and JSON that keeps 64-bit values.
 *
 * Everything here is total or throws RangeError; decoders turn that into the typed error of their port.
 */

/** A named range of bytes read little-endian; every read is checked against the end. */
export class ByteReader {
  readonly #view: DataView;

  constructor(
    readonly bytes: Uint8Array,
    public position = 0,
    readonly end = bytes.length,
  ) {
    if (position < 0 || end > bytes.length || position > end) {
      throw new RangeError(`range ${position}..${end} of ${bytes.length} bytes`);
    }
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  get left(): number {
    return this.end - this.position;
  }

  u8(): number {
    return this.#view.getUint8(this.#take(1));
  }
  u16(): number {
    return this.#view.getUint16(this.#take(2), true);
  }
  i16(): number {
    return this.#view.getInt16(this.#take(2), true);
  }
  u32(): number {
    return this.#view.getUint32(this.#take(4), true);
  }
  i32(): number {
    return this.#view.getInt32(this.#take(4), true);
  }
  u64(): bigint {
    return this.#view.getBigUint64(this.#take(8), true);
  }
  i64(): bigint {
    return this.#view.getBigInt64(this.#take(8), true);
  }
  slice(lengthBytes: number): Uint8Array {
    const from = this.#take(lengthBytes);
    return this.bytes.subarray(from, from + lengthBytes);
  }

  #take(lengthBytes: number): number {
    const from = this.position;
    if (!(lengthBytes >= 0) || from + lengthBytes > this.end) {
      throw new RangeError(`${lengthBytes} bytes at ${from} pass the end at ${this.end}`);
    }
    this.position = from + lengthBytes;
    return from;
  }
}

export function toHex(bytes: Uint8Array): string {
  return bytes.toHex();
}

/** @throws RangeError where `text` is not an even number of hex digits. */
export function fromHex(text: string): Uint8Array<ArrayBuffer> {
  try {
    return Uint8Array.fromHex(text);
  } catch {
    throw new RangeError(`not hex: ${JSON.stringify(text.slice(0, 40))}`);
  }
}

/** `0x` and lower-case hex. */
export const hex = (value: bigint | number): string => `0x${value.toString(16)}`;

/** JSON in which a bigint is written as the string `0x…n`. Read it back with `parseJson`. */
export function toJson(value: unknown, indent?: number): string {
  return JSON.stringify(value, (_, item) => (typeof item === "bigint" ? encodeBigint(item) : item), indent);
}

/** @throws SyntaxError on bad JSON. */
export function parseJson(text: string): unknown {
  return JSON.parse(text, (_, item) => (typeof item === "string" && bigintText.test(item) ? decodeBigint(item) : item));
}

const bigintText = /^-?0x[0-9a-f]{1,32}n$/;
const encodeBigint = (value: bigint): string =>
  value < 0n ? `-0x${(-value).toString(16)}n` : `0x${value.toString(16)}n`;
const decodeBigint = (text: string): bigint =>
  text.startsWith("-") ? -BigInt(text.slice(1, -1)) : BigInt(text.slice(0, -1));
