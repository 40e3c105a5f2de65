// SPDX-License-Identifier: Apache-2.0
/**
 * Every write, flush, truncation and creation of the databases fails in turn: EIO, ENOSPC, a read-only disk, half a write;
 * once, or from then on until the disk is healed. In the end everything must be there, once, in order.
 */
import { afterAll, beforeAll, expect } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { seededRandom, systemRandom } from "#clock.ts";
import { long, need } from "#tests/skip.ts";
import { buildShim, heal, type Mishap, shimEnvironment } from "./diskShim.ts";

const mishaps: readonly Mishap[] = ["eio", "enospc", "erofs", "short"];
const sampled = 32;
const seed = Number(process.env.HOLDFAST_TEST_SEED ?? Math.floor(systemRandom() * 2 ** 31));

type Life = readonly [Mishap, number, number];
type Told = { operations?: number; mishap?: Mishap; from?: number; count?: number; struck?: number; broken?: string[] };

let scratch = "";
beforeAll(() => {
  scratch = mkdtempSync(join(tmpdir(), "holdfast-disk-"));
});
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

async function run(lives: readonly Life[]): Promise<Told[]> {
  const control = join(scratch, "control");
  const watched = join(scratch, "disk");
  heal(control);
  const child = Bun.spawn(
    [process.execPath, join(import.meta.dir, "storageOnBadDisk.ts"), watched, control, JSON.stringify(lives)],
    {
      env: shimEnvironment(buildShim(scratch), watched, control),
      stdio: ["ignore", "pipe", "inherit"],
    },
  );
  const text = await new Response(child.stdout).text();
  expect(await child.exited).toBe(0);
  return text
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line) as Told);
}

need("gcc")(
  `each operation of the disk fails in turn, once and for long (HOLDFAST_TEST_SEED=${seed})`,
  async () => {
    const undisturbed = await run([["none", 0, 0]]);
    expect(undisturbed.flatMap(({ broken }) => broken ?? [])).toEqual([]);
    const operations = undisturbed[0]!.operations ?? 0;
    expect(operations).toBeGreaterThan(40);
    const all = mishaps.flatMap((mishap) =>
      [1, 0].flatMap((count) => Array.from({ length: operations }, (_, index): Life => [mishap, index + 1, count])),
    );
    const random = seededRandom(seed);
    const lives = long("crash") ? all : Array.from({ length: sampled }, () => all[Math.floor(random() * all.length)]!);
    const told = await run(lives);
    expect(told.filter(({ broken }) => broken?.length !== 0)).toEqual([]);
    expect(told).toHaveLength(lives.length);
    expect(told.filter(({ struck }) => (struck ?? 0) > 0).length).toBeGreaterThan(lives.length / 2);
  },
  long("crash") ? 3_600_000 : 120_000,
);
