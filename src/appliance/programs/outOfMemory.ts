// SPDX-License-Identifier: Apache-2.0
/**
 * How many processes the kernel has ended since boot because memory ran out: by it a SIGKILL is known to be the kernel's.
 * Source: `oom_kill` of /proc/vmstat (Linux 4.13); 0 where there is none.
 */
import { readFileSync } from "node:fs";

export function readOutOfMemoryKills(path = "/proc/vmstat"): number {
  try {
    return Number(/^oom_kill (\d+)$/m.exec(readFileSync(path, "latin1"))?.[1] ?? 0);
  } catch {
    return 0; // No /proc/vmstat in this container: then a SIGKILL is somebody's.
  }
}
