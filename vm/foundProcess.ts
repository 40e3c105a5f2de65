// SPDX-License-Identifier: Apache-2.0
/**
 * Finds processes of Cloud Hypervisor by where they work and by their command line, and ends those that an earlier
 * supervisor left. Gets a run directory; gives process ids with their start times. No file has to be in step with anything,
 * but that the guest's API socket leads to the seat of the process that is the guest. Source: proc(5).
 */
import { existsSync, readdirSync, readFileSync, readlinkSync, realpathSync } from "node:fs";
import type { Clock } from "#clock.ts";
import type { RunDirectory } from "./runDirectory.ts";

/** How often a process that is not our child is looked at: nobody tells us of its end. */
const gonePollMs = 50;
const seatWord = /^path=api(?:-(\d+))?\.sock$/;

type Found = { readonly pid: number; readonly startTicks: number; readonly seat: number };

/** The process in this seat; of the guest's own, the one that is the guest now. */
export function findProcess(directory: RunDirectory): Omit<Found, "seat"> | null {
  const wanted = directory.seat === 0 ? directory.taken : directory.seat;
  return findProcesses(directory).find(({ seat }) => seat === wanted) ?? null;
}

/** Kills what an earlier supervisor left here, without asking it anything. */
export async function killLeftover(directory: RunDirectory, clock: Clock): Promise<void> {
  const found = findProcess(directory);
  if (found !== null) await killFound(found, clock);
}

/** Those that work here and are not the guest. */
export const findStandbys = (directory: RunDirectory): Found[] =>
  findProcesses(directory).filter(({ seat }) => seat !== 0 && seat !== directory.taken);

/** Kills what an earlier supervisor left standing by, and removes what belongs to it. Gives how many those were. */
export async function killStandbys(directory: RunDirectory, clock: Clock): Promise<number> {
  const left = findStandbys(directory);
  for (const found of left) {
    await killFound(found, clock);
    directory.at(found.seat).removeSockets();
    directory.at(found.seat).removeTraces();
  }
  return left.length;
}

/** Resolves once it is gone; never once the wait is aborted: nobody is interested then. */
export async function goneOf(pid: number, startTicks: number, clock: Clock, signal: AbortSignal): Promise<null> {
  while (isSame(pid, startTicks)) {
    if (signal.aborted) return await new Promise<never>(() => {});
    await clock.sleep(gonePollMs, signal).catch(() => {});
  }
  return null;
}

export const isSame = (pid: number, startTicks: number): boolean => startTicksOf(pid) === startTicks;

/**
 * Field 22 of /proc/PID/stat, or null where the process is gone: a zombie without threads. As long as one of its threads
 * is still dying (field 20), its sockets, its disks and its taps are its own.
 */
export function startTicksOf(pid: number): number | null {
  const fields = readProc(pid, "stat")
    .replace(/^.*\) /s, "")
    .split(" ");
  const isGone = (fields[0] === "Z" && Number(fields[17]) <= 1) || fields[0] === "X";
  return fields.length < 20 || isGone ? null : Number(fields[19]);
}

async function killFound({ pid, startTicks }: Omit<Found, "seat">, clock: Clock): Promise<void> {
  process.kill(pid, "SIGKILL");
  await goneOf(pid, startTicks, clock, new AbortController().signal);
}

/** The processes that work in this directory and whose command line names an API socket in it. */
function findProcesses(directory: RunDirectory): Found[] {
  if (!existsSync(directory.path)) return [];
  const place = realpathSync(directory.path);
  return readdirSync("/proc").flatMap((name) => {
    const pid = Number(name);
    if (!Number.isInteger(pid) || pid === process.pid) return [];
    const words = readProc(pid, "cmdline").split("\0");
    const said = seatWord.exec(words[words.indexOf("--api-socket") + 1] ?? "");
    if (said === null || workingDirectory(pid) !== place) return [];
    const startTicks = startTicksOf(pid);
    return startTicks === null ? [] : [{ pid, startTicks, seat: Number(said[1] ?? 0) }];
  });
}

function workingDirectory(pid: number): string | null {
  try {
    return readlinkSync(`/proc/${pid}/cwd`);
  } catch {
    return null;
  }
}

const readProc = (pid: number, file: string): string => readText(`/proc/${pid}/${file}`);

function readText(path: string): string {
  try {
    return readFileSync(path, "latin1");
  } catch {
    // Gone between listing and reading.
    return "";
  }
}
