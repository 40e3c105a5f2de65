// SPDX-License-Identifier: Apache-2.0
/**
 * A record of a disk gives what a cut at its moment leaves: the same as the disk that was cut then.
 */
import { afterEach, beforeEach, expect, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { seededRandom } from "#clock.ts";
import { CutDisk } from "#scripts/lab/cutDisk.ts";
import { anyTime, anyWrite, cutAfter, RecordingDisk, readTold } from "#scripts/lab/diskRecord.ts";

const diskBytes = 64 * 1024;
const sectorBytes = 512;
let scratch = "";
beforeEach(() => {
  scratch = mkdtempSync(join(tmpdir(), "holdfast-record-"));
});
afterEach(() => rmSync(scratch, { recursive: true, force: true }));

const write = fc.record({
  at: fc.nat(119),
  sectors: fc.integer({ min: 1, max: 8 }),
  fill: fc.integer({ min: 1, max: 255 }),
  fua: fc.boolean(),
});
const acts = fc.array(fc.option(write, { nil: "flush" as const }), { minLength: 1, maxLength: 30 });

test("a cut of the record is a cut of the disk", () => {
  const [live, recorded, record] = ["live", "recorded", "record"].map((name) => join(scratch, name)) as [
    string,
    string,
    string,
  ];
  fc.assert(
    fc.property(acts, fc.nat(), fc.nat(), (done, seed, at) => {
      const count = at % (done.length + 1);
      for (const path of [live, recorded]) writeFileSync(path, new Uint8Array(diskBytes));
      const disks = { all: new RecordingDisk(recorded, record), cut: new CutDisk(live, seed) };
      done.forEach((act, index) => {
        for (const disk of index < count ? [disks.all, disks.cut] : [disks.all]) {
          if (act === "flush") disk.flush();
          else disk.write(act.at * sectorBytes, new Uint8Array(act.sectors * sectorBytes).fill(act.fill), act.fua);
        }
      });
      const report = disks.cut.cut();
      for (const disk of Object.values(disks)) disk[Symbol.dispose]();
      writeFileSync(recorded, new Uint8Array(diskBytes));
      expect(cutAfter(record, count, recorded, seed)).toEqual(report);
      expect(readFileSync(recorded).equals(readFileSync(live))).toBe(true);
    }),
  );
});

test("a moment is one of the span, by time or by write", () => {
  const path = join(scratch, "image");
  writeFileSync(path, new Uint8Array(diskBytes));
  {
    using disk = new RecordingDisk(path, path);
    for (let sector = 0; sector < 20; sector += 1) {
      disk.write(sector * sectorBytes, new Uint8Array(sectorBytes).fill(sector), false);
      disk.flush();
    }
    expect(disk.read(7 * sectorBytes, 1)![0]).toBe(7);
    expect(disk.write(diskBytes, new Uint8Array(1), false)).toBe(false);
  }
  const items = readTold(path);
  expect(items.length).toBe(40);
  const span = { fromNs: items[10]!.atNs, toNs: items[30]!.atNs };
  const random = seededRandom(3);
  for (let round = 0; round < 50; round += 1) {
    const byTime = anyTime(items, span, random);
    expect(byTime.count).toBeGreaterThanOrEqual(10);
    expect(byTime.count).toBeLessThanOrEqual(31);
    const { count } = anyWrite(items, span, random, ({ at }) => at >= 8 * sectorBytes);
    expect(items[count - 1]).toMatchObject({ what: "write" });
    expect(items[count - 1]!.at).toBeGreaterThanOrEqual(8 * sectorBytes);
  }
});
