// SPDX-License-Identifier: Apache-2.0
/**
 * The unwinder against gdb: written faults, every instruction of a run, and stock servers under load.
 *
 * `scripts/bench/unwind.ts` is the long form for the servers. Stacks that gdb itself loses are ours to finish.
 */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { withEmulated } from "#scripts/bench/arm64.ts";
import { type Sampled, type SampleOrder, sampleEmulated, sampleStarted } from "#scripts/bench/gdbSampler.ts";
import { sampleProgram } from "#scripts/bench/unwind.ts";
import {
  type Comparison,
  compare,
  compareBlocked,
  emptyComparison,
  unwindSample,
} from "#scripts/bench/unwindCompare.ts";
import { programNames } from "#scripts/bench/unwindPrograms.ts";
import { long, need, processor, tracing } from "#tests/skip.ts";

const source = `${import.meta.dir}/unwindCases.c`;
const seed = 20_260_801;
const crossLibraries = "/usr/aarch64-linux-gnu";
const timeoutMs = 240_000;
let directory = "";

beforeAll(async () => {
  directory = (await Bun.$`mktemp -d`.text()).trim();
});
afterAll(async () => {
  await Bun.$`rm -rf ${directory}`;
});

/** Faults and the depth of their stacks from the fault to `_start`. */
const shapes: readonly (readonly [string, number])[] = [
  ["plain", 11],
  ["variable", 10],
  ["signal", 13],
  ["alternate", 13],
  ["null", 6],
  ["wild", 6],
  ["callback", 11],
  ["abort", 7],
];

async function build(name: string, compiler: string, ...flags: string[]): Promise<string> {
  const executable = `${directory}/${name}`;
  await Bun.$`${compiler} -O2 -w ${flags} -o ${executable} ${source}`;
  return executable;
}

const order = (mode: SampleOrder["mode"], stacks = 1): SampleOrder => ({
  mode,
  stacks,
  seed,
  out: `${directory}/samples`,
});

function compareAll(sampled: Sampled): Comparison {
  const comparison = emptyComparison();
  for (const sample of sampled.samples) {
    compare(sample, sampled, comparison);
    compareBlocked(sample, sampled, comparison.blocked);
  }
  return comparison;
}

function expectEqual(comparison: Comparison): void {
  expect(comparison.mismatches).toEqual([]);
  expect(comparison.frames).toBeGreaterThan(0);
  expect(comparison.equalFrames).toBe(comparison.frames);
  expect(comparison.equalRegisters).toBe(comparison.registers);
  expect(comparison.outermost).toBe(comparison.stacks - comparison.gdbLost);
}

/** gdb, too, loses its way now and then (a stack that it samples within a loader's or a vector routine's own code). */
const gdbLostShareMax = 0.02;

const native = need("gdb", "gcc", tracing, processor("x64"));

native(
  "every written fault is walked to its outermost frame, as gdb does",
  async () => {
    const executable = await build("faults", "gcc");
    for (const [shape, depth] of shapes) {
      const comparison = compareAll(await sampleStarted([executable, shape], order("fault")));
      expectEqual(comparison);
      expect([shape, comparison.deepest]).toEqual([shape, depth]);
    }
  },
  timeoutMs,
);

native(
  "a stack overflow: the first 2,000 frames are gdb's",
  async () => {
    const executable = await build("faults", "gcc");
    const comparison = compareAll(await sampleStarted([executable, "overflow"], order("fault")));
    expect(comparison.mismatches).toEqual([]);
    expect(comparison.equalFrames).toBe(2_000);
  },
  timeoutMs,
);

native(
  "at every instruction of a run through linkage stubs, callbacks and a handler",
  async () => {
    const executable = await build("walk", "gcc", "-z", "lazy", "-fcf-protection=none");
    const sampled = await sampleStarted([executable, "walk"], order("steps", long("real") ? 3_000 : 700));
    const comparison = compareAll(sampled);
    expectEqual(comparison);
    expect(comparison.stacks).toBeGreaterThan(500);
  },
  timeoutMs,
);

for (const name of programNames) {
  const program = name === "redis" ? "redis-server" : name;
  need(
    "gdb",
    tracing,
    processor("x64"),
    program,
    ...(name === "mariadbd" ? ["mariadb-slap"] : []),
  )(
    `${name} under load`,
    async () => {
      const scratch = `${directory}/${name}`;
      await Bun.$`mkdir ${scratch}`;
      const stacks = long("real") ? 2_000 : 60;
      const sampled = await sampleProgram(name, scratch, { ...order("random", stacks), out: `${scratch}/samples` });
      const comparison = compareAll(sampled);
      expectEqual(comparison);
      expect(comparison.gdbLost).toBeLessThanOrEqual(Math.ceil(comparison.stacks * gdbLostShareMax));
      expect(comparison.stacks).toBeGreaterThanOrEqual(stacks);
      expect(comparison.blocked.wrongCertainFrames).toBe(0);
    },
    timeoutMs,
  );
}

const emulated = need("gdb-multiarch", "aarch64-linux-gnu-gcc", "qemu-aarch64-static");

async function sampleFault(executable: string, shape: string, mode: "fault" | "steps" = "fault"): Promise<Sampled> {
  return withEmulated(crossLibraries, directory, [executable, shape], (emulator) =>
    sampleEmulated(executable, emulator, order(mode, 400)),
  );
}

emulated(
  "AArch64: every written fault is walked to its outermost frame",
  async () => {
    const executable = await build("arm", "aarch64-linux-gnu-gcc");
    for (const [shape, depth] of shapes) {
      const sampled = await sampleFault(executable, shape);
      const comparison = compareAll(sampled);
      expect(comparison.mismatches).toEqual([]);
      const ours = unwindSample(sampled.samples[0]!, sampled);
      // gdb 13 does not get through the emulator's signal frames, so the stack behind another one is not in its sample.
      if (shape === "alternate") expect(ours.frames.map(({ foundBy }) => foundBy)).toContain("signal");
      else expect([shape, ours.end, ours.frames.length]).toEqual([shape, "outermost", depth]);
    }
  },
  timeoutMs,
);

emulated(
  "AArch64: signed return addresses, which gdb needs the stub's help for",
  async () => {
    const executable = await build("signed", "aarch64-linux-gnu-gcc", "-mbranch-protection=standard");
    const sampled = await sampleFault(executable, "callback");
    expect(sampled.samples.map((sample) => unwindSample(sample, sampled).end)).toEqual(["outermost"]);
  },
  timeoutMs,
);

emulated(
  "AArch64: at every instruction of a run",
  async () => {
    const executable = await build("walk-arm", "aarch64-linux-gnu-gcc", "-static");
    const sampled = await sampleFault(executable, "walk", "steps");
    const comparison = compareAll(sampled);
    expectEqual(comparison);
    expect(comparison.stacks).toBe(400);
  },
  timeoutMs,
);

test("the shapes are those of the program", async () => {
  const text = await Bun.file(source).text();
  for (const [shape] of shapes) expect(text).toContain(`"${shape}"`);
});
