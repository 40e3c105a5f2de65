// SPDX-License-Identifier: Apache-2.0
/**
 * Writes small ELF files for tests: one code segment with `.eh_frame`, with or without its search header and sections.
 */

export type TinyFunction = { readonly start: number; readonly lengthBytes: number; readonly cfi: readonly number[] };

export type TinyElf = {
  readonly machine?: number;
  readonly elfClass?: number;
  readonly type?: number;
  /** Code at offset `codeAt`. */
  readonly code?: Uint8Array;
  readonly functions?: readonly TinyFunction[];
  /** Instructions of the only CIE. */
  readonly cieCfi?: readonly number[];
  readonly augmentation?: string;
  readonly withHeader?: boolean;
  readonly buildId?: string;
};

export const codeAt = 0x400;
const framesAt = 0x1000;
const headerAt = 0x3000;
const noteAt = 0x3f00;
const fileBytes = 0x4000;

const x86Initial = [0x0c, 7, 8, 0x90, 1];
const armInitial = [0x0c, 31, 0];

/** Position equals offset everywhere in the file. */
export function tinyElf(options: TinyElf = {}): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(fileBytes);
  const view = new DataView(bytes.buffer);
  const machine = options.machine ?? 62;
  bytes.set([0x7f, 0x45, 0x4c, 0x46, options.elfClass ?? 2, 1, 1]);
  view.setUint16(16, options.type ?? 3, true);
  view.setUint16(18, machine, true);
  view.setBigUint64(32, 64n, true);
  view.setUint16(54, 56, true);
  const segments = [[1, 5, 0, fileBytes]];
  if (options.withHeader !== false) segments.push([0x6474e550, 4, headerAt, 0xf00]);
  if (options.buildId !== undefined) segments.push([4, 4, noteAt, 36]);
  view.setUint16(56, segments.length, true);
  for (const [index, [type = 0, flags = 0, at = 0, size = 0]] of segments.entries()) {
    const entry = 64 + index * 56;
    view.setUint32(entry, type, true);
    view.setUint32(entry + 4, flags, true);
    for (const field of [8, 16]) view.setBigUint64(entry + field, BigInt(at), true);
    for (const field of [32, 40]) view.setBigUint64(entry + field, BigInt(size), true);
  }
  if (options.code !== undefined) bytes.set(options.code, codeAt);
  if (options.buildId !== undefined) writeNote(bytes, options.buildId);
  writeFrames(bytes, machine, options);
  return bytes;
}

function writeNote(bytes: Uint8Array, buildId: string): void {
  const content = Uint8Array.fromHex(buildId);
  new DataView(bytes.buffer).setUint32(noteAt, 4, true);
  bytes.set([content.length, 0, 0, 0, 3, 0, 0, 0, 0x47, 0x4e, 0x55, 0], noteAt + 4);
  bytes.set(content, noteAt + 16);
}

function writeFrames(bytes: Uint8Array, machine: number, options: TinyElf): void {
  const view = new DataView(bytes.buffer);
  const [dataAlign, returnColumn, initial] = machine === 62 ? [0x78, 16, x86Initial] : [0x78, 30, armInitial];
  const letters = [...(options.augmentation ?? "zR")].map((letter) => letter.charCodeAt(0));
  // Position-relative signed 32-bit pointers.
  const cie = [1, ...letters, 0, 1, dataAlign, returnColumn, 1, 0x1b, ...(options.cieCfi ?? initial)];
  let at = writeEntry(bytes, framesAt, 0, cie);
  const table: [number, number][] = [];
  for (const { start, lengthBytes, cfi } of options.functions ?? []) {
    table.push([start, at]);
    const words = new DataView(new ArrayBuffer(8));
    words.setInt32(0, start - (at + 8), true);
    words.setInt32(4, lengthBytes, true);
    at = writeEntry(bytes, at, at + 4 - framesAt, [...new Uint8Array(words.buffer), 0, ...cfi]);
  }
  if (options.withHeader === false) return;
  table.sort((a, b) => a[0] - b[0]);
  bytes.set([1, 0x1b, 0x03, 0x3b], headerAt);
  view.setInt32(headerAt + 4, framesAt - (headerAt + 4), true);
  view.setUint32(headerAt + 8, table.length, true);
  for (const [index, [start, position]] of table.entries()) {
    view.setInt32(headerAt + 12 + index * 8, start - headerAt, true);
    view.setInt32(headerAt + 16 + index * 8, position - headerAt, true);
  }
}

function writeEntry(bytes: Uint8Array, at: number, id: number, content: readonly number[]): number {
  const lengthBytes = 4 + Math.ceil(content.length / 4) * 4;
  const view = new DataView(bytes.buffer);
  view.setUint32(at, lengthBytes, true);
  view.setUint32(at + 4, id, true);
  bytes.set(content, at + 8);
  return at + 4 + lengthBytes;
}
