// SPDX-License-Identifier: Apache-2.0
/**
 * The disk whose power is cut keeps its word: what was flushed is there, what was not is old or new sector by sector, and a
 * disk that ignores flushes has nothing.
 */
import { afterEach, beforeEach, expect, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { CutDisk } from "#scripts/lab/cutDisk.ts";

const diskBytes = 64 * 1024;
const sectorBytes = 512;

let scratch = "";
let image = "";
beforeEach(() => {
  scratch = mkdtempSync(join(tmpdir(), "holdfast-disk-"));
  image = join(scratch, "image");
});
afterEach(() => rmSync(scratch, { recursive: true, force: true }));

const acts = fc.array(
  fc.oneof(
    {
      weight: 6,
      arbitrary: fc.record({
        at: fc.nat(119),
        sectors: fc.integer({ min: 1, max: 8 }),
        fill: fc.integer({ min: 1, max: 255 }),
        fua: fc.boolean(),
      }),
    },
    { weight: 1, arbitrary: fc.constant("flush" as const) },
  ),
  { maxLength: 40 },
);

test("flushed is kept, the rest is old or new by the sector, and reads see the newest", () => {
  fc.assert(
    fc.property(acts, fc.nat(), (done, seed) => {
      writeFileSync(image, new Uint8Array(diskBytes));
      const disk = new CutDisk(image, seed);
      const newest = new Uint8Array(diskBytes);
      /** Every value that a sector may have after a cut. */
      const legal = Array.from({ length: diskBytes / sectorBytes }, () => new Set([0]));
      for (const act of done) {
        if (act === "flush") {
          disk.flush();
          legal.forEach((_, sector) => {
            legal[sector] = new Set([newest[sector * sectorBytes]!]);
          });
          continue;
        }
        const bytes = new Uint8Array(act.sectors * sectorBytes).fill(act.fill);
        expect(disk.write(act.at * sectorBytes, bytes, act.fua)).toBe(true);
        newest.set(bytes, act.at * sectorBytes);
        for (let sector = act.at; sector < act.at + act.sectors; sector += 1) {
          if (act.fua) legal[sector] = new Set();
          legal[sector]!.add(act.fill);
        }
      }
      expect(disk.read(0, diskBytes)).toEqual(newest);
      disk.cut();
      expect(disk.read(0, sectorBytes)).toBeNull();
      disk[Symbol.dispose]();
      const left = readFileSync(image);
      legal.forEach((values, sector) => {
        const content = left.subarray(sector * sectorBytes, (sector + 1) * sectorBytes);
        expect(values.has(content[0]!)).toBe(true);
        expect(content.every((byte) => byte === content[0])).toBe(true);
      });
    }),
  );
});

test("a disk that ignores flushes has nothing of what it acknowledged", () => {
  writeFileSync(image, new Uint8Array(diskBytes));
  const disk = new CutDisk(image, 1, true);
  disk.write(0, new Uint8Array(4096).fill(9), true);
  expect(disk.flush()).toBe(true);
  expect(disk.read(0, 1)).toEqual(new Uint8Array([9]));
  disk.cut();
  disk[Symbol.dispose]();
  expect(readFileSync(image).every((byte) => byte === 0)).toBe(true);
});
