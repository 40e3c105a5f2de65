// SPDX-License-Identifier: Apache-2.0
/**
 * The processes of a systemd service, found by its control group. Gets the name of a unit; gives its processes and which of
 * them is the main one. Reads files only: it works without D-Bus, and costs some 50 µs a look.
 *
 * The main process is the one that no other process of the unit has started; where there are several, systemd is asked.
 * Limits: `depthMax` levels of slices, `groupsMax` control groups. Source: systemd.slice(5), systemd-escape(1); cgroups(7).
 */
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { readParent, readStartTicks } from "./processes.ts";

export type Unit = { readonly mainPid: number; readonly pids: readonly number[] };

const depthMax = 6;
const groupsMax = 4096;
export const cgroupRoot = "/sys/fs/cgroup";

/** What systemd says; null where it cannot be asked. */
export type AskMainPid = (unit: string) => number | null;

/** The directory of the unit's control group; null where it has none: then nothing of it runs. */
export function findControlGroup(unit: string, root = cgroupRoot): string | null {
  const usual = join(root, "system.slice", unit);
  if (existsSync(usual)) return usual;
  let level = rootsIn(root);
  for (let depth = 0, seen = 0; depth < depthMax && seen < groupsMax; depth += 1) {
    const below = level.flatMap((directory) =>
      foldersIn(directory).map((name) => ({ name, path: join(directory, name) })),
    );
    const found = below.find(({ name }) => name === unit);
    if (found !== undefined) return found.path;
    seen += below.length;
    // Units live in slices; what is below another unit is its own affair.
    level = below
      .filter(({ name }) => name.endsWith(".slice") || /^user@\d+\.service$/.test(name))
      .map(({ path }) => path);
  }
  return null;
}

/** What runs of a unit now; null where nothing does. */
export function readUnit(unit: string, askMainPid: AskMainPid, root = cgroupRoot): Unit | null {
  const group = findControlGroup(unit, root);
  const pids = group === null ? [] : processesIn(group);
  if (pids.length === 0) return null;
  const inside = new Set(pids);
  const first = pids.filter((pid) => !inside.has(readParent(pid) ?? 0));
  if (first.length === 1) return { mainPid: first[0]!, pids };
  const told = askMainPid(unit);
  if (told !== null && inside.has(told)) return { mainPid: told, pids };
  const ageOf = (pid: number): number => readStartTicks(pid) ?? 0;
  const oldest = [...(first.length > 0 ? first : pids)].sort((a, b) => ageOf(a) - ageOf(b) || a - b);
  return { mainPid: oldest[0]!, pids };
}

/** `system` with systemd's own hierarchy beside others (cgroup v1), or the root itself (v2). */
function rootsIn(root: string): string[] {
  const old = join(root, "systemd");
  return existsSync(join(root, "cgroup.controllers")) || !existsSync(old) ? [root] : [old];
}

/** Its own processes and those of the groups below it, which a service may have made. */
function processesIn(group: string, depth = 0): number[] {
  const own = read(join(group, "cgroup.procs"))
    .split("\n")
    .filter((line) => line !== "")
    .map(Number);
  if (depth >= depthMax) return own;
  return [...own, ...foldersIn(group).flatMap((name) => processesIn(join(group, name), depth + 1))];
}

function foldersIn(directory: string): string[] {
  try {
    return readdirSync(directory, { withFileTypes: true })
      .filter((entry) => entry.isDirectory())
      .map((entry) => entry.name);
  } catch {
    return []; // Gone between two looks.
  }
}

function read(path: string): string {
  try {
    return readFileSync(path, "latin1");
  } catch {
    return "";
  }
}

/** Asks systemd by `systemctl`; takes some milliseconds. */
export function askSystemd(unit: string): number | null {
  try {
    const asked = Bun.spawnSync(["systemctl", "show", "--property=MainPID", "--value", unit], { timeout: 500 });
    const pid = Number(asked.stdout.toString().trim());
    return asked.success && pid > 0 ? pid : null;
  } catch {
    return null; // No systemctl here.
  }
}
