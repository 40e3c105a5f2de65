// SPDX-License-Identifier: Apache-2.0
/**
 * The health of one process. Gets a box and a pid; gives processor time, memory, threads, descriptors, or why not.
 *
 * Open descriptors are the size of `/proc/PID/fd` (Linux 6.2); on older kernels its names are counted. Source: proc(5).
 */
import type { Box } from "#board/box.ts";
import { absent, type ProcessHealth, type Seen, seen } from "#health.ts";
import { parseIoBytes, parseOpenFilesMax, parseProcessStat } from "./procFiles.ts";

export type ProcessSources = {
  readonly box: Box;
  readonly pageBytes: number;
  /** Size of a directory as stat(2) tells it; null where it may not be read. */
  readonly sizeOf: (path: string) => number | null;
};

export function readProcessHealth({ box, pageBytes, sizeOf }: ProcessSources, pid: number): Seen<ProcessHealth> {
  const stat = parseProcessStat(box.text(`/proc/${pid}/stat`) ?? "");
  if (stat === null) return absent(`process ${pid} is gone`);
  const { state, cpuSeconds, minorFaults, majorFaults, threads, residentPages } = stat;
  const limits = box.text(`/proc/${pid}/limits`);
  return seen({
    ...{ pid, state, cpuSeconds, minorFaults, majorFaults, threads },
    residentBytes: residentPages * pageBytes,
    openFiles: countOpenFiles(box, sizeOf, pid),
    openFilesMax: limits === null ? null : parseOpenFilesMax(limits),
    ioBytes: parseIoBytes(box.text(`/proc/${pid}/io`) ?? ""),
  });
}

function countOpenFiles(box: Box, sizeOf: ProcessSources["sizeOf"], pid: number): number | null {
  const path = `/proc/${pid}/fd`;
  const size = sizeOf(path);
  if (size === null) return null;
  if (size > 0) return size;
  // 0: an older kernel, or somebody else's process, whose names are none to us.
  const names = box.names(path).length;
  return names > 0 ? names : null;
}
