// SPDX-License-Identifier: Apache-2.0
/**
 * All unwind rows of real files against readelf: this machine's programs and libraries, and AArch64 ones.
 *
 * `bun scripts/bench/arm64.ts .cache/arm64` fetches Debian's arm64 packages for the last two tests.
 */
import { afterAll, beforeAll, expect } from "bun:test";
import { existsSync } from "node:fs";
import { resolve } from "node:path";
import { sampleArm64Redis } from "#scripts/bench/arm64.ts";
import { compare, emptyComparison } from "#scripts/bench/unwindCompare.ts";
import { long, type Need, need, programPath } from "#tests/skip.ts";
import { compareRows } from "./interpretedFrames.ts";

const timeoutMs = 240_000;
const root = resolve(import.meta.dir, "../../.cache/arm64/root");
const crossLibc = "/usr/aarch64-linux-gnu/lib/libc.so.6";
let directory = "";

beforeAll(async () => {
  directory = (await Bun.$`mktemp -d`.text()).trim();
});
afterAll(async () => {
  await Bun.$`rm -rf ${directory}`;
});

const file =
  (path: string, advice: string): Need =>
  () =>
    existsSync(path) ? null : advice;
const arm64Packages = file(
  `${root}/usr/sbin/nginx`,
  "Debian's arm64 packages: bun scripts/bench/arm64.ts .cache/arm64",
);

async function expectAllRows(path: string): Promise<void> {
  const comparison = await compareRows(path);
  expect([path, comparison.differences]).toEqual([path, []]);
  expect(comparison.equal).toBe(comparison.rows);
  expect(comparison.rows).toBeGreaterThan(1_000);
}

const programs = ["redis-server", "nginx", "memcached", "mosquitto", ...(long("real") ? ["mariadbd"] : [])];
for (const program of programs) {
  need("readelf", program)(`rows of ${program}`, () => expectAllRows(programPath(program)!), timeoutMs);
}

need("readelf", file(crossLibc, "libc6-arm64-cross: apt-get install libc6-arm64-cross"))(
  "AArch64: rows of the C library",
  () => expectAllRows(crossLibc),
  timeoutMs,
);

need("readelf", arm64Packages)(
  "AArch64: rows of Debian's servers",
  async () => {
    const paths = ["usr/bin/redis-check-rdb", "usr/bin/memcached", "usr/sbin/mosquitto", "usr/sbin/nginx"];
    for (const path of long("real") ? [...paths, "usr/sbin/mariadbd"] : paths) await expectAllRows(`${root}/${path}`);
  },
  timeoutMs,
);

need("gdb-multiarch", "qemu-aarch64-static", arm64Packages)(
  "AArch64: stacks of Debian's redis-server under load are gdb's",
  async () => {
    const stacks = long("real") ? 2_000 : 60;
    const order = { mode: "places", stacks, seed: 1, out: `${directory}/samples` } as const;
    const sampled = await sampleArm64Redis(root, directory, order);
    const comparison = emptyComparison();
    for (const sample of sampled.samples) compare(sample, sampled, comparison);
    expect(comparison.mismatches).toEqual([]);
    expect(comparison.equalFrames).toBe(comparison.frames);
    expect(comparison.outermost).toBe(comparison.stacks);
    expect(comparison.stacks).toBeGreaterThanOrEqual(stacks);
  },
  timeoutMs,
);
