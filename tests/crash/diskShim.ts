// SPDX-License-Identifier: Apache-2.0
/**
 * A disk that fails on command, for a program that is started with it. Gets a plan; gives the environment of that program
 * and what it met. The library is diskShim.c; it stands before the calls that SQLite makes, not before those of the runtime.
 */
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { assert } from "#errors.ts";

export const operations = { write: 1, sync: 2, truncate: 4, name: 8 } as const;
export const everyOperation = 15;
export const mishaps = {
  none: 0,
  eio: 1,
  enospc: 2,
  erofs: 3,
  short: 4,
  killBefore: 5,
  killAfter: 6,
  stall: 7,
  /** Counts operations and lets them pass. */
  count: 8,
} as const;
export type Mishap = keyof typeof mishaps;

export type ShimPlan = {
  readonly mishap: Mishap;
  /** Bits of `operations`. */
  readonly operations: number;
  /** The first operation that it happens to, counted from 1. */
  readonly from: number;
  /** How many; 0 = all that follow. */
  readonly count: number;
};

/** The compiled library. Compiles it into `directory` where it is not there yet. */
export function buildShim(directory: string): string {
  const library = join(directory, "diskShim.so");
  if (existsSync(library)) return library;
  mkdirSync(directory, { recursive: true });
  const source = join(import.meta.dir, "diskShim.c");
  const built = Bun.spawnSync(["gcc", "-O2", "-Wall", "-shared", "-fPIC", "-o", library, source, "-ldl"]);
  assert(built.exitCode === 0, `gcc cannot compile ${source}: ${built.stderr.toString()}`);
  return library;
}

export const shimEnvironment = (library: string, watched: string, control: string): Record<string, string> => ({
  ...(process.env as Record<string, string>),
  LD_PRELOAD: library,
  HOLDFAST_SHIM_PATH: watched,
  HOLDFAST_SHIM_CONTROL: control,
});

/** Puts a plan into force and starts counting again. */
export function plan(control: string, { mishap, operations: which, from, count }: ShimPlan): void {
  mkdirSync(dirname(control), { recursive: true });
  const file = new Uint32Array([which, mishaps[mishap], from, count, 0, 0, 0, 0]);
  // Written over, not anew: a running program has it mapped.
  writeFileSync(control, new Uint8Array(file.buffer), { flag: existsSync(control) ? "r+" : "w" });
}

export const heal = (control: string): void => plan(control, { mishap: "none", operations: 0, from: 0, count: 0 });

/** Operations seen since the plan, and how many of them it happened to. */
export function met(control: string): { seen: number; struck: number } {
  const bytes = readFileSync(control);
  return { seen: bytes.readUInt32LE(16), struck: bytes.readUInt32LE(20) };
}
