// SPDX-License-Identifier: Apache-2.0
/**
 * Power cuts while a supervisor writes at full speed: a real ext4 on a disk that keeps only what was flushed, and of the rest
 * what the seed says. Nothing acknowledged may be missing. One run on a disk that ignores flushes must fail, or this test
 * could not.
 */
import { afterAll, beforeAll, expect } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { seededRandom, systemClock, systemRandom } from "#clock.ts";
import { CutMount, makeImage } from "#scripts/lab/cutMount.ts";
import { memoryScratch } from "#tests/memoryScratch.ts";
import { device, long, need, root } from "#tests/skip.ts";
import { examine, live } from "./storageDeath.ts";

const cuts = long("crash") ? 300 : 6;
const cutsPerImage = 6;
const imageBytes = 96 * 1024 * 1024;
const lifeMsMax = 400;
/** A disk that lies is found out within so many cuts. */
const liesMax = 5;
const seed = Number(process.env.HOLDFAST_TEST_SEED ?? Math.floor(systemRandom() * 2 ** 31));
const powerTest = need(root, "nbdfuse", "losetup", "mkfs.ext4", device("/dev/fuse"), device("/dev/loop-control"));

let scratch = "";
let memory = "";
beforeAll(() => {
  scratch = mkdtempSync(join(tmpdir(), "holdfast-cut-"));
  memory = memoryScratch("cut");
});
afterAll(() => {
  for (const directory of [scratch, memory]) rmSync(directory, { recursive: true, force: true });
});

/** The places of a life: the ring is in memory, so each cut takes it. */
const placesOn = (mount: CutMount, cut: number): { directory: string; runDirectory: string } => ({
  directory: join(mount.directory, "state"),
  runDirectory: join(memory, `run-${cut}`),
});

/** One life that ends in a cut, and what a new start finds. */
async function cutOnce(
  image: string,
  cut: number,
  first: number,
  ignoreFlushes: boolean,
): Promise<{ acked: number; last: number; broken: string[]; flushes: number }> {
  const random = seededRandom(seed + cut);
  let acked: number;
  let flushes = 0;
  {
    await using mount = await CutMount.open(image, scratch, seed + cut, ignoreFlushes);
    const life = await live(placesOn(mount, cut), first, seed + cut, async (opened) => {
      // One in four while it opens.
      if (random() < 0.75) await opened;
      await systemClock.sleep(random() * lifeMsMax);
      flushes = (await mount.cut()).flushes;
    });
    acked = life.acked;
  }
  await using mount = await CutMount.open(image, scratch, seed + cut);
  const { last, broken } = await examine(placesOn(mount, cut + 0.5), acked);
  return { acked, last, broken, flushes };
}

powerTest(
  `${cuts} power cuts: nothing acknowledged is missing (HOLDFAST_TEST_SEED=${seed})`,
  async () => {
    const image = join(scratch, "disk.image");
    let acknowledged = 0;
    for (let cut = 0, last = 0; cut < cuts; cut += 1) {
      if (cut % cutsPerImage === 0) {
        rmSync(image, { force: true });
        makeImage(image, imageBytes);
        last = 0;
      }
      const result = await cutOnce(image, cut, last + 1, false);
      expect({ seed, cut, broken: result.broken }).toEqual({ seed, cut, broken: [] });
      expect(result.flushes).toBeGreaterThan(0);
      acknowledged += result.acked - last;
      last = result.last;
    }
    expect(acknowledged).toBeGreaterThan(cuts);
  },
  cuts * 30_000,
);

powerTest(
  `a disk that ignores flushes is found out (HOLDFAST_TEST_SEED=${seed})`,
  async () => {
    for (let cut = 0; cut < liesMax; cut += 1) {
      const image = join(scratch, `lie-${cut}.image`);
      makeImage(image, imageBytes);
      // The directory must be on the disk for the loss to be one of rows.
      {
        await using mount = await CutMount.open(image, scratch, seed);
        await examine(placesOn(mount, cut), 0);
      }
      const { acked, broken } = await cutOnce(image, cut, 1, true);
      if (acked > 0 && broken.some((line) => line.includes("acknowledged events are missing"))) return;
    }
    expect("found out").toBe("trusted a disk that lies");
  },
  liesMax * 60_000,
);
