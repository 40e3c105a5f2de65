// SPDX-License-Identifier: Apache-2.0
/**
 * Whether the box has memory for a process that stands by: gets the kernel's own figures; gives the reason why not, or null.
 * And that such a process is the first to go where memory runs out between two looks.
 *
 * It takes about 6 MiB for itself, 8 MiB for our thread and at most 16 MiB of the guest's pages (measured 2026-11,
 * scripts/bench/restore.ts): far less than what it may not take from others. Source: proc(5), Documentation/accounting/psi.rst.
 */
import { readFileSync, writeFileSync } from "node:fs";
import { parsePressure } from "#monitor/health/pressure.ts";

const availableBytesMin = 128 << 20;
/** Share of the last ten seconds in which something waited for memory. */
const stalledMax = 0.1;
/** The most that the kernel knows. */
const firstToGo = 1_000;

export function whyNoRoom(meminfo = read("/proc/meminfo"), pressure = read("/proc/pressure/memory")): string | null {
  const kilobytes = /^MemAvailable:\s+(\d+) kB$/m.exec(meminfo)?.[1];
  const availableBytes = kilobytes === undefined ? null : Number(kilobytes) * 1_024;
  if (availableBytes !== null && availableBytes < availableBytesMin) {
    return `only ${availableBytes >> 20} MiB of memory are available`;
  }
  const stalled = parsePressure(pressure)?.some.over10s ?? 0;
  return stalled > stalledMax
    ? `memory is short: ${Math.round(stalled * 100)} % of the time somebody waits for it`
    : null;
}

/** The kernel ends it before any other. Gives what undoes that, for once it is the guest. @throws where /proc is not as it is */
export function makeFirstToGo(pid: number): () => void {
  const path = `/proc/${pid}/oom_score_adj`;
  const before = readFileSync(path, "utf8");
  writeFileSync(path, String(firstToGo));
  return () => writeFileSync(path, before);
}

function read(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch {
    // A kernel without it tells of no pressure.
    return "";
  }
}
