// SPDX-License-Identifier: Apache-2.0
/**
 * The control group (version 2) of a process. Gets a box and a pid; gives what its controllers account, or why there is
 * nothing. Source: Documentation/admin-guide/cgroup-v2.rst.
 *
 * On a machine with both versions the second one is mounted apart and its controllers are mostly taken by the first: then
 * most numbers are null, and that is said.
 */
import type { Box } from "#board/box.ts";
import { absent, type ControlGroupHealth, type Pressures, pressureResources, type Seen, seen } from "#health.ts";
import { parsePressure } from "./pressure.ts";

/** Where version 2 is mounted, from `/proc/self/mounts`; null where it is not. */
export const mountOfControlGroups = (mounts: string): string | null => /^\S+ (\S+) cgroup2 /m.exec(mounts)?.[1] ?? null;

/** The path of a process within version 2, from `/proc/PID/cgroup`. */
export const pathOfProcess = (text: string): string | null => /^0::(\/.*)$/m.exec(text)?.[1] ?? null;

export function readControlGroup(box: Box, pid: number): Seen<ControlGroupHealth> {
  const mount = mountOfControlGroups(box.text("/proc/self/mounts") ?? "");
  if (mount === null)
    return absent("control groups of version 2 are not mounted", "boot with systemd.unified_cgroup_hierarchy=1");
  const path = pathOfProcess(box.text(`/proc/${pid}/cgroup`) ?? "");
  if (path === null) return absent(`process ${pid} is gone, or its control group may not be read`);
  if (path === "/") return absent("it is in the root group, which accounts nothing of its own", "run it as a service");
  const read = (file: string): string => box.text(`${mount}${path}/${file}`) ?? "";
  const [statText, eventsText] = [read("cpu.stat"), read("memory.events")];
  const [cpuUs, throttledUs] = [flatKey(statText, "usage_usec"), flatKey(statText, "throttled_usec")];
  const pressures = pressureResources.map((resource) => [resource, parsePressure(read(`${resource}.pressure`))]);
  return seen({
    path,
    memoryBytes: single(read("memory.current")),
    memoryBytesMax: single(read("memory.max")),
    oomKills: flatKey(eventsText, "oom_kill"),
    cpuSeconds: cpuUs === null ? null : cpuUs / 1e6,
    throttledSeconds: throttledUs === null ? null : throttledUs / 1e6,
    tasks: single(read("pids.current")),
    pressure: Object.fromEntries(pressures) as Pressures,
  });
}

/** One number in a file; `max` and nothing are null. */
const single = (text: string): number | null => (/^\d+$/.test(text.trim()) ? Number(text) : null);

/** One line of a flat keyed file. */
export function flatKey(text: string, key: string): number | null {
  const found = new RegExp(`^${key} (\\d+)$`, "m").exec(text);
  return found === null ? null : Number(found[1]);
}
