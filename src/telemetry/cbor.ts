// SPDX-License-Identifier: Apache-2.0
/**
 * CBOR as this project writes it: definite lengths, sorted keys, shortest integers, 64-bit floats, no tags. Gets plain
 * values; gives bytes, and back. Bytes outside this profile are refused, whoever sent them.
 *
 * A walk without recursion checks every head before anything is built, so nesting, counts and lengths cost nothing.
 * cbor-x writes a number above 2^32 as a float: integers beyond it go through bigint here. Source: RFC 8949, sections 3 and 4.2.
 */
import { isUtf8 } from "node:buffer";
import { Encoder } from "cbor-x";
import { TelemetryError } from "#errors.ts";

export type CborValue =
  | null
  | boolean
  | number
  | bigint
  | string
  | Uint8Array
  | readonly CborValue[]
  | ReadonlyMap<number, CborValue>
  | CborMap;
export type CborMap = { readonly [key: string]: CborValue | undefined };

/** Depth and number of items that any payload of the contract stays far below. */
const depthMax = 12;
const itemsMax = 20_000;

const codec = new Encoder({ mapsAsObjects: false, useRecords: false, variableMapSize: true, tagUint8Array: false });

/** Encodes in the profile. Keys with the value undefined are left out. @throws RangeError on NaN or too deep a value */
export function encodeCbor(value: CborValue): Uint8Array<ArrayBuffer> {
  // A copy: the codec hands out windows of a shared buffer, and a window posted to a Worker would take all of it along.
  return new Uint8Array(codec.encode(prepare(value, 0)));
}

/** Decodes bytes in the profile. @throws TelemetryError telemetry.payload, telemetry.size */
export function decodeCbor(bytes: Uint8Array, bytesMax: number): CborValue {
  if (bytes.length > bytesMax) {
    throw new TelemetryError("telemetry.size", "the payload is too large", { bytes: bytes.length, bytesMax });
  }
  new ProfileWalk(bytes).check();
  try {
    return plain(codec.decode(bytes));
  } catch (cause) {
    throw new TelemetryError("telemetry.payload", "the payload cannot be decoded", { bytes: bytes.length }, cause);
  }
}

/** Decodes a map with text keys. @throws TelemetryError */
export function decodeCborMap(bytes: Uint8Array, bytesMax: number): CborMap {
  const value = decodeCbor(bytes, bytesMax);
  if (isMap(value)) return value;
  throw new TelemetryError("telemetry.payload", "the payload is not a map with text keys");
}

export const isMap = (value: CborValue | undefined): value is CborMap =>
  typeof value === "object" &&
  value !== null &&
  !Array.isArray(value) &&
  !(value instanceof Uint8Array) &&
  !(value instanceof Map);

/** What the codec is given: keys in order, wide integers as bigint. */
function prepare(value: CborValue, depth: number): unknown {
  if (depth > depthMax) throw new RangeError(`a value nested deeper than ${depthMax}`);
  if (typeof value === "number" || typeof value === "bigint") return prepareNumber(value);
  if (typeof value !== "object" || value === null || value instanceof Uint8Array) return value;
  if (Array.isArray(value)) return value.map((item) => prepare(item, depth + 1));
  const sorted = new Map<string | number, unknown>();
  if (value instanceof Map) {
    for (const key of [...value.keys()].sort(byInteger)) sorted.set(key, prepare(value.get(key)!, depth + 1));
    return sorted;
  }
  for (const [key, item] of Object.entries(value as CborMap).sort(([a], [b]) => byText(a, b))) {
    if (item !== undefined) sorted.set(key, prepare(item, depth + 1));
  }
  return sorted;
}

/** The codec finds the shortest form of a number up to 2^32 and of a bigint beyond it, and not the other way round. */
function prepareNumber(value: number | bigint): number | bigint {
  if (Number.isNaN(value)) throw new RangeError("NaN has no place in a payload");
  if (typeof value === "bigint" && (value < -(2n ** 63n) || value >= 2n ** 64n))
    throw new RangeError(`${value} has no 64 bits`);
  const narrow = value >= -0x1_0000_0000 && value <= 0xffff_ffff;
  if (typeof value === "bigint") return narrow ? Number(value) : value;
  return narrow || !Number.isSafeInteger(value) ? value : BigInt(value);
}

/** Order of encoded keys: shorter first, then by bytes. */
const byText = (a: string, b: string): number =>
  Buffer.byteLength(a) - Buffer.byteLength(b) || Buffer.compare(Buffer.from(a), Buffer.from(b));
/** Order of encoded integers: 0, 1, 2, … and after them -1, -2, … */
const byInteger = (a: number, b: number): number => (a < 0 === b < 0 ? Math.abs(a) - Math.abs(b) : a < 0 ? 1 : -1);

/** What the decoder gave, with text-keyed maps as objects without a prototype and small integers as numbers. */
function plain(value: unknown): CborValue {
  if (typeof value === "bigint") return Number.isSafeInteger(Number(value)) ? Number(value) : value;
  if (value instanceof Uint8Array) return new Uint8Array(value);
  if (Array.isArray(value)) return value.map(plain);
  if (!(value instanceof Map)) return value as CborValue;
  const keys = [...value.keys()];
  if (keys.length > 0 && keys.every((key) => typeof key === "number")) {
    return new Map(keys.map((key: number) => [key, plain(value.get(key))]));
  }
  const object: Record<string, CborValue> = Object.create(null);
  for (const key of keys) object[key] = plain(value.get(key));
  return object;
}

/** One container that is being walked: items left, and the encoded key before this one. */
type Open = { left: number; readonly map: boolean; key: Uint8Array | null; keyNext: boolean; textKeys: boolean | null };

class ProfileWalk {
  #at = 0;
  #items = 0;

  constructor(private readonly bytes: Uint8Array) {}

  /** @throws TelemetryError telemetry.payload where the bytes leave the profile */
  check(): void {
    const open: Open[] = [];
    do {
      const container = open.at(-1);
      const entered = container?.map && container.keyNext ? this.#key(container) : this.#item(open.length);
      if (entered !== null) open.push(entered);
      else this.#close(open);
    } while (open.length > 0);
    if (this.#at !== this.bytes.length) this.#refuse("bytes after the end");
  }

  /** Counts the item just read and leaves every container that it completed. */
  #close(open: Open[]): void {
    for (;;) {
      const container = open.at(-1);
      if (container === undefined) return;
      if (container.map) container.keyNext = !container.keyNext;
      container.left -= 1;
      if (container.left > 0) return;
      open.pop();
    }
  }

  #key(container: Open): null {
    const from = this.#at;
    const major = this.bytes[from]! >> 5;
    if (major !== 0 && major !== 1 && major !== 3) this.#refuse("a key that is neither text nor integer");
    if (container.textKeys !== null && container.textKeys !== (major === 3))
      this.#refuse("keys of two kinds in one map");
    container.textKeys = major === 3;
    this.#item(0);
    const key = this.bytes.subarray(from, this.#at);
    if (container.key !== null && Buffer.compare(container.key, key) >= 0) this.#refuse("keys out of order or doubled");
    container.key = key;
    return null;
  }

  /** Reads one head; gives the container it opened, if it has anything inside. */
  #item(depth: number): Open | null {
    this.#items += 1;
    if (this.#items > itemsMax) this.#refuse("too many items");
    if (this.#at >= this.bytes.length) this.#refuse("it ends too early");
    const initial = this.bytes[this.#at]!;
    const major = initial >> 5;
    if (major === 7) return this.#simple(initial & 31);
    const value = this.#argument(initial & 31);
    if (major === 6) this.#refuse("a tag");
    if (major === 1 && value >= 2n ** 63n) this.#refuse("a number below -2^63");
    if (major < 2) return null;
    if (value > this.bytes.length - this.#at) this.#refuse("a length beyond the end");
    const length = Number(value);
    if (major < 4) {
      if (major === 3 && !isUtf8(this.bytes.subarray(this.#at, this.#at + length)))
        this.#refuse("text that is not UTF-8");
      this.#at += length;
      return null;
    }
    if (length === 0) return null;
    if (depth >= depthMax) this.#refuse("it is nested too deep");
    const map = major === 5;
    return { left: map ? length * 2 : length, map, key: null, keyNext: map, textKeys: null };
  }

  #simple(value: number): null {
    // 20 false, 21 true, 22 null, 27 a 64-bit float.
    if (value !== 20 && value !== 21 && value !== 22 && value !== 27)
      this.#refuse("a simple value outside the profile");
    this.#at += value === 27 ? 9 : 1;
    if (this.#at > this.bytes.length) this.#refuse("it ends too early");
    if (value === 27 && this.#isNan(this.#at - 8)) this.#refuse("NaN");
    return null;
  }

  #isNan(at: number): boolean {
    return Number.isNaN(new DataView(this.bytes.buffer, this.bytes.byteOffset + at, 8).getFloat64(0));
  }

  #argument(size: number): bigint | number {
    this.#at += 1;
    if (size < 24) return size;
    if (size > 27) this.#refuse("an indefinite length");
    const lengthBytes = 1 << (size - 24);
    if (this.#at + lengthBytes > this.bytes.length) this.#refuse("it ends too early");
    let value = 0n;
    for (const byte of this.bytes.subarray(this.#at, this.#at + lengthBytes)) value = (value << 8n) | BigInt(byte);
    this.#at += lengthBytes;
    const least = size === 24 ? 24n : 1n << BigInt(lengthBytes * 4);
    if (value < least) this.#refuse("a number that is not in its shortest form");
    return value;
  }

  #refuse(why: string): never {
    throw new TelemetryError("telemetry.payload", `not in our CBOR profile: ${why}`, { at: this.#at });
  }
}
