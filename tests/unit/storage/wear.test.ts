// SPDX-License-Identifier: Apache-2.0
/**
 * What a disk says of its age, and what is counted against the budget of a day.
 */
import { afterEach, beforeEach, expect, test } from "bun:test";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { defaultLimits } from "#storage/limits.ts";
import { fullness } from "#storage/space.ts";
import { parseWriteBytes, readDeviceWear, WearCount } from "#storage/wear.ts";

let scratch = "";
beforeEach(() => {
  scratch = mkdtempSync(join(tmpdir(), "holdfast-wear-"));
});
afterEach(() => rmSync(scratch, { recursive: true, force: true }));

test("an eMMC tells its age, other devices are left out, and silence is silence", () => {
  for (const name of ["mmcblk0", "mmcblk0p1", "mmcblk1", "vda"])
    mkdirSync(join(scratch, name, "device"), { recursive: true });
  writeFileSync(join(scratch, "mmcblk0/device/life_time"), "0x01 0x03\n");
  writeFileSync(join(scratch, "mmcblk0/device/pre_eol_info"), "0x02\n");
  expect(readDeviceWear(scratch)).toEqual([
    { device: "mmcblk0", lifeUsedPercent: 30, reserve: "warning" },
    { device: "mmcblk1", lifeUsedPercent: null, reserve: null },
  ]);
  expect(readDeviceWear(join(scratch, "nowhere"))).toEqual([]);
});

test("written bytes are read, and an unknown form is not taken for zero", () => {
  expect(parseWriteBytes("rchar: 1\nwrite_bytes: 651264\ncancelled_write_bytes: 0\n")).toBe(651264);
  expect(parseWriteBytes("rchar: 1\n")).toBeNull();
  expect(parseWriteBytes(null)).toBeNull();
});

test("a new day starts at zero", () => {
  const count = new WearCount();
  count.add(1_000, 10, 4);
  count.add(2_000, 5, 0);
  expect(count.today).toMatchObject({ bytes: 15, historyBytes: 4 });
  count.add(86_400_000, 1, 0);
  expect(count.today).toEqual({ day: 1, bytes: 1, historyBytes: 0 });
});

test("fullness has its borders where the limits say", () => {
  const total = 16 * 1024 ** 3;
  const at = (freeBytes: number): string => fullness({ freeBytes, totalBytes: total }, defaultLimits);
  expect(at(total / 10)).toBe("normal");
  expect(at(total / 10 - 1)).toBe("tight");
  expect(at(defaultLimits.criticalFreeBytes)).toBe("tight");
  expect(at(defaultLimits.criticalFreeBytes - 1)).toBe("critical");
});
