// SPDX-License-Identifier: Apache-2.0
/**
 * Which process of a guest is meant by a name or a unit. Gets the guest's processes and a way to read its files; gives a pid,
 * or null while there is none.
 *
 * A name is the program's own as it shows itself, with as much after it as tells it from others: `redis-server`,
 * `nginx: worker`. Of several the oldest counts. A unit's processes are read from its control group (version 2).
 */
import type { ReadFile } from "./remoteCode.ts";

export type ProgramName = { readonly process?: string | undefined; readonly unit?: string | undefined };
export type GuestProcess = { readonly pid: number; readonly command: string };

const groupRoot = "/sys/fs/cgroup";
const slices = ["system.slice", "user.slice", "machine.slice"];

export async function findProgram(
  name: ProgramName,
  processes: () => Promise<readonly GuestProcess[]>,
  readFile: ReadFile,
): Promise<number | null> {
  if (name.unit !== undefined) return await firstOfUnit(name.unit, readFile);
  return firstNamed(name.process ?? "", await processes());
}

/** Exported for tests. */
export function firstNamed(wanted: string, processes: readonly GuestProcess[]): number | null {
  const found = processes.filter(({ command }) => shows(command, wanted)).map(({ pid }) => pid);
  return found.length === 0 ? null : Math.min(...found);
}

/** The command without the folder it was started from begins with the name, and the name ends there. */
function shows(command: string, wanted: string): boolean {
  const own = command.replace(/^\S*\//, "");
  const next = own[wanted.length];
  return own.startsWith(wanted) && (next === undefined || next === " " || next === ":");
}

/** Until it runs the program, systemd's child shows the program's name in brackets: what it is then is not worth an attach. */
async function isStarting(pid: number, readFile: ReadFile): Promise<boolean> {
  const bytes = await readFile(`/proc/${pid}/cmdline`);
  return bytes === null || bytes.length === 0 || bytes[0] === "(".charCodeAt(0);
}

async function firstOfUnit(unit: string, readFile: ReadFile): Promise<number | null> {
  for (const slice of slices) {
    const bytes = await readFile(`${groupRoot}/${slice}/${unit}/cgroup.procs`);
    const pid = Number.parseInt(bytes === null ? "" : new TextDecoder().decode(bytes), 10);
    if (pid > 0) return (await isStarting(pid, readFile)) ? null : pid;
  }
  return null;
}
