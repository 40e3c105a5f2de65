// SPDX-License-Identifier: Apache-2.0
/**
 * Ends stubs that hold nothing any more, and clears the directory of their FIFOs: the one we used, and one that an
 * earlier supervisor of the same name has left behind.
 *
 * A stub is recognised by its standard input, which is the FIFO in our directory, so a process id that was given to
 * somebody else is never signalled. Limits: `askedMs` for SIGTERM, `killedMs` for SIGKILL.
 */
import { readFileSync, rmSync, statSync } from "node:fs";
import { join } from "node:path";
import type { Clock } from "#clock.ts";
import { isAlive, readStartTicks } from "#monitor/processes.ts";

const askedMs = 300;
const killedMs = 2000;
const lookMs = 5;

/** The stub that lives in `directory`, by its process id; null where there is none. */
export function stubIn(directory: string): number | null {
  try {
    const pid = Number(readFileSync(join(directory, "pid"), "latin1"));
    const ours = statSync(join(directory, "in"));
    const its = statSync(`/proc/${pid}/fd/0`);
    return pid > 1 && ours.ino === its.ino && ours.dev === its.dev && isAlive(pid) ? pid : null;
  } catch {
    return null; // No directory, no process id, or no such process: nothing lives there.
  }
}

/** Ends the stub that lives in `directory`, and removes the directory. What it traced runs on. */
export async function clearStub(directory: string, clock: Clock): Promise<void> {
  const pid = stubIn(directory);
  if (pid !== null) await endStub(pid, clock);
  try {
    rmSync(directory, { recursive: true, force: true });
  } catch {
    // A run directory that cannot be written: the next start says so, and this one has nothing more to do there.
  }
}

/** Ends a stub, by force where it does not listen. */
export async function endStub(pid: number, clock: Clock): Promise<void> {
  const startTicks = readStartTicks(pid);
  const runs = (): boolean => isAlive(pid) && readStartTicks(pid) === startTicks;
  if (await ends(pid, "SIGTERM", runs, askedMs, clock)) return;
  await ends(pid, "SIGKILL", runs, killedMs, clock);
}

async function ends(
  pid: number,
  signal: NodeJS.Signals,
  runs: () => boolean,
  patienceMs: number,
  clock: Clock,
): Promise<boolean> {
  const endNs = clock.monotonicNs() + patienceMs * 1e6;
  try {
    if (runs()) process.kill(pid, signal);
  } catch {
    return true; // It has ended by itself.
  }
  while (runs()) {
    if (clock.monotonicNs() > endNs) return false;
    await clock.sleep(lookMs);
  }
  return true;
}
