// SPDX-License-Identifier: Apache-2.0
/**
 * Unwinding against gdb on real servers under load: `unwind.ts --program NAME --stacks N --seed N --json FILE`, and with
 * `--arm64 ROOT` (unpacked by arm64.ts) on an emulated AArch64 redis-server.
 *
 * gdb stops the program at random moments and writes registers, stack bytes and its own frames of every thread; our
 * unwinder then gets the same registers and bytes. Ends with 1 where fewer than 99 % of frames are equal or a stack that
 * gdb followed to its end is not.
 */
import { cpus, release } from "node:os";
import { parseArgs } from "node:util";
import { unwind } from "#binary/unwind.ts";
import { toJson } from "#bytes.ts";
import { systemClock } from "#clock.ts";
import { ConfigError } from "#errors.ts";
import { sampleArm64Redis } from "./arm64.ts";
import { type Sampled, type SampleOrder, sampleRunning } from "./gdbSampler.ts";
import { type Comparison, compare, compareBlocked, emptyComparison, number64, stackReader } from "./unwindCompare.ts";
import { loadCommand } from "./unwindLoad.ts";
import { type ProgramName, programNames, startProgram } from "./unwindPrograms.ts";

const warmUpMs = 500;
const equalShareMin = 0.99;
const timedRounds = 30;

/** Starts the program, loads it, lets gdb sample it, and stops both. */
export async function sampleProgram(name: ProgramName, directory: string, order: SampleOrder): Promise<Sampled> {
  await using program = await startProgram(name, directory);
  const load = Bun.spawn([...loadCommand(name, program.socket)], { stdio: ["ignore", "pipe", "ignore"] });
  try {
    if (name === "mariadbd") await systemClock.sleep(warmUpMs);
    else await load.stdout.getReader().read();
    return await sampleRunning(program.pid, order);
  } finally {
    load.kill("SIGKILL");
    await load.exited;
  }
}

/** Median and 99th percentile of one unwinding, µs, over the stacks of at least `framesMin` frames. */
function timeUnwinding({ samples, codeMap }: Sampled, framesMin: number): Record<string, number> {
  const chosen = samples.filter((sample) => sample.frames.length >= framesMin).slice(0, 100);
  const prepared = chosen.map((sample) => ({
    registers: sample.registers.map(number64),
    read: stackReader(sample),
    depth: sample.frames.length,
  }));
  const times: number[] = [];
  for (let round = 0; round < timedRounds; round += 1) {
    for (const { registers, read } of prepared) {
      const started = systemClock.monotonicNs();
      unwind(registers, read, codeMap, 1_000);
      if (round >= timedRounds / 3) times.push((systemClock.monotonicNs() - started) / 1_000);
    }
  }
  times.sort((a, b) => a - b);
  const at = (share: number): number => Number((times[Math.floor(times.length * share)] ?? 0).toFixed(1));
  const depth = prepared.reduce((sum, { depth: frames }) => sum + frames, 0) / Math.max(1, prepared.length);
  return { stacks: prepared.length, framesMean: Number(depth.toFixed(1)), medianUs: at(0.5), p99Us: at(0.99) };
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      program: { type: "string" },
      stacks: { type: "string", default: "2000" },
      seed: { type: "string", default: "1" },
      json: { type: "string" },
      arm64: { type: "string" },
    },
  });
  const name = programNames.find((candidate) => candidate === values.program);
  if (name === undefined) throw new ConfigError("config.argument", `--program is one of ${programNames.join(", ")}`);
  const directory = (await Bun.$`mktemp -d`.text()).trim();
  try {
    const [stacks, seed] = [Number(values.stacks), Number(values.seed)];
    const order = { mode: "random", stacks, seed, out: `${directory}/samples` } as const;
    const sampled =
      values.arm64 === undefined
        ? await sampleProgram(name, directory, order)
        : await sampleArm64Redis(values.arm64, directory, order);
    const comparison = emptyComparison();
    for (const sample of sampled.samples) {
      compare(sample, sampled, comparison);
      compareBlocked(sample, sampled, comparison.blocked);
    }
    const time = timeUnwinding(sampled, 8);
    const { distinct, ...counts } = comparison;
    const gdbOutermost = sampled.samples.filter((sample) => sample.reason === "outermost").length;
    const results = {
      program: values.arm64 === undefined ? name : `${name} arm64`,
      ...counts,
      distinct: distinct.size,
      gdbOutermost,
      time,
    };
    const machine = { arch: process.arch, cores: cpus().length, kernel: release() };
    const rounds = comparison.stacks;
    const report = { name: "unwind", version: 1, seed: Number(values.seed), machine, rounds, results, failed_runs: [] };
    if (values.json !== undefined) await Bun.write(values.json, `${toJson(report, 2)}\n`);
    print(results, comparison);
    const isEqual = comparison.equalFrames >= equalShareMin * comparison.frames && comparison.frames > 0;
    process.exitCode = isEqual && comparison.outermost >= gdbOutermost ? 0 : 1;
  } finally {
    await Bun.$`rm -rf ${directory}`;
  }
}

function print(results: Record<string, unknown>, comparison: Comparison): void {
  const shown = Object.entries(results).filter(([key]) => key !== "mismatches");
  for (const [key, value] of shown) process.stdout.write(`${key.padEnd(16)} ${toJson(value)}\n`);
  for (const mismatch of comparison.mismatches.slice(0, 20)) process.stdout.write(`mismatch: ${mismatch}\n`);
}

if (import.meta.main) await main();
