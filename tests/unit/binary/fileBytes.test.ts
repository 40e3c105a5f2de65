// SPDX-License-Identifier: Apache-2.0
/** Pages of a file read as its bytes in memory would: every number, every range, beyond the end, and where a read fails. */
import { expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { parseElf } from "#binary/elf.ts";
import { PagedBytes, viewOf } from "#binary/fileBytes.ts";
import { seededRandom } from "#clock.ts";

const pageBytes = 4_096;
const seed = 20_261;

const pagedOf = (bytes: Uint8Array, reads: number[] = []): PagedBytes =>
  new PagedBytes(bytes.length, (position, lengthBytes) => {
    reads.push(position);
    return bytes.slice(position, position + lengthBytes);
  });

const random = seededRandom(seed);
const bytes = Uint8Array.from({ length: 40 * pageBytes + 77 }, () => Math.floor(random() * 256));
const view = viewOf(bytes);

test("numbers at every place around pages and the end are those of the bytes, or both are out of range", () => {
  const paged = pagedOf(bytes);
  const outcome = (read: () => number | bigint): number | bigint | string => {
    try {
      return read();
    } catch (error) {
      return (error as Error).name;
    }
  };
  const places = [0, pageBytes, 2 * pageBytes, 39 * pageBytes, bytes.length].flatMap((place) =>
    Array.from({ length: 20 }, (_, index) => place - 10 + index),
  );
  for (const at of places) {
    for (const [ours, theirs] of [
      [() => paged.getUint8(at), () => view.getUint8(at)],
      [() => paged.getInt8(at), () => view.getInt8(at)],
      [() => paged.getUint16(at, true), () => view.getUint16(at, true)],
      [() => paged.getInt16(at, true), () => view.getInt16(at, true)],
      [() => paged.getUint32(at, true), () => view.getUint32(at, true)],
      [() => paged.getInt32(at, true), () => view.getInt32(at, true)],
      [() => paged.getBigUint64(at, true), () => view.getBigUint64(at, true)],
      [() => paged.getBigInt64(at, true), () => view.getBigInt64(at, true)],
    ] as const) {
      expect(`${at} ${outcome(ours)}`).toBe(`${at} ${outcome(theirs)}`);
    }
  }
});

test(`ranges of any length are those of the bytes (seed ${seed})`, () => {
  const paged = pagedOf(bytes);
  for (let round = 0; round < 2_000; round += 1) {
    const from = Math.floor(random() * (bytes.length + 100));
    const to = from + Math.floor(random() ** 4 * 3 * pageBytes);
    expect(Buffer.from(paged.subarray(from, to)).equals(bytes.subarray(from, to))).toBe(true);
  }
});

test("a page that is held is not read again, and only some are held", () => {
  const reads: number[] = [];
  const paged = pagedOf(bytes, reads);
  for (let page = 0; page < 8; page += 1) paged.getUint8(page * pageBytes);
  for (let page = 0; page < 8; page += 1) paged.getUint32(page * pageBytes + 100, true);
  expect(reads.length).toBe(8);
  for (let page = 0; page < 40; page += 1) paged.getUint8(page * pageBytes);
  reads.length = 0;
  for (let page = 0; page < 40; page += 1) paged.getUint8(page * pageBytes);
  expect(reads.length).toBeGreaterThan(0);
});

test("a file that gives no more reads as its end: no range, and numbers out of range", () => {
  const paged = new PagedBytes(bytes.length, (position) => (position < pageBytes ? bytes.slice(position, 100) : null));
  expect(paged.getUint8(99)).toBe(bytes[99]!);
  expect(() => paged.getUint8(100)).toThrow(RangeError);
  expect(() => paged.getUint32(pageBytes, true)).toThrow(RangeError);
  expect(paged.subarray(pageBytes, pageBytes + 8).length).toBe(0);
  expect(paged.subarray(0, 3 * pageBytes).length).toBe(100);
});

test("an image whose file is read by pages answers as one in memory", () => {
  const path = /\S+\/libc\.so\S*$/m.exec(readFileSync("/proc/self/maps", "latin1"))![0];
  const file = new Uint8Array(readFileSync(path));
  const [whole, paged] = [parseElf(file), parseElf(pagedOf(file))];
  expect(paged.buildId).toBe(whole.buildId);
  expect(paged.layout.sections).toEqual(whole.layout.sections);
  const step = Math.max(1, Math.floor(whole.frames.count / 200));
  for (let index = 0; index < whole.frames.count; index += step) {
    const start = whole.frames.startAt(index);
    expect(paged.fdeAt(start)).toEqual(whole.fdeAt(start));
    expect(paged.rowAt(start)).toEqual(whole.rowAt(start));
    expect(Buffer.from(paged.codeAt(start, 64)).equals(whole.codeAt(start, 64))).toBe(true);
    expect(paged.symbolAt(start)).toEqual(whole.symbolAt(start));
  }
  expect(whole.frames.count).toBeGreaterThan(0);
});
