// SPDX-License-Identifier: Apache-2.0
/**
 * What a restarted supervisor must know of the program it guarded: one small JSON file in the guard's run directory.
 *
 * Written through a rename, so it is there whole or not at all. A record whose process is gone, or whose pid belongs to a
 * younger process, counts as none. Lives in memory (tmpfs): after a reboot there is nothing to take over.
 */
import { mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { isAlive, readStartTicks } from "#monitor/processes.ts";

export type RunRecord = {
  readonly pid: number;
  /** Start of the process in clock ticks since boot: with the pid it names one process. */
  readonly startTicks: number;
  /** The command that started it; null where it was attached by pid. */
  readonly command: readonly string[] | null;
  /** Where that command was started; null where it was attached by pid. */
  readonly directory: string | null;
  /** It was seen waiting for work: a fault that a later supervisor finds is one of a program that serves. */
  readonly served: boolean;
};

const fileName = "program.json";

export function writeRunRecord(runDirectory: string, record: RunRecord): void {
  mkdirSync(runDirectory, { recursive: true, mode: 0o700 });
  const path = join(runDirectory, fileName);
  writeFileSync(`${path}.new`, `${JSON.stringify(record)}\n`, { mode: 0o600 });
  renameSync(`${path}.new`, path);
}

/** Notes whether the program on record serves. Where it cannot be written down, a later supervisor knows less. */
export function noteServed(runDirectory: string, served: boolean): void {
  const record = readRunRecord(runDirectory);
  if (record === null || record.served === served) return;
  try {
    writeRunRecord(runDirectory, { ...record, served });
  } catch {
    // A run directory that is full or gone: the guard goes on without.
  }
}

export function removeRunRecord(runDirectory: string): void {
  rmSync(join(runDirectory, fileName), { force: true });
}

/** The record of a process that still runs; null where there is none. */
export function readRunRecord(runDirectory: string): RunRecord | null {
  const record = parseRecord(runDirectory);
  if (record === null || !isAlive(record.pid)) return null;
  return readStartTicks(record.pid) === record.startTicks ? record : null;
}

function parseRecord(runDirectory: string): RunRecord | null {
  try {
    const value = JSON.parse(readFileSync(join(runDirectory, fileName), "utf8")) as Partial<RunRecord>;
    const { pid, startTicks, command, directory, served } = value;
    const whole = Number.isSafeInteger(pid) && Number.isSafeInteger(startTicks);
    const words = command === null || (Array.isArray(command) && command.every((word) => typeof word === "string"));
    if (!whole || !words) return null;
    return {
      pid: pid!,
      startTicks: startTicks!,
      command: command ?? null,
      directory: typeof directory === "string" ? directory : null,
      served: served === true,
    };
  } catch {
    // Never written, or damaged: then there is nothing that could be taken over by it.
    return null;
  }
}
