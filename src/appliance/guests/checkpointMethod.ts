// SPDX-License-Identifier: Apache-2.0
/**
 * How a guest's memory is taken for a checkpoint. Gets its section and the process that holds it; gives the method with the
 * shorter stop that its memory allows.
 *
 * Streamed: Cloud Hypervisor keeps the books of what changes, and the stop is as short as its own whatever the guest's size.
 * From the memory file: everything with content is read once more while the guest stands still, 5 ms for 80 MiB and more;
 * but nothing is sent, and holes stay holes. Memory that is a file, as every restored guest's is, is streamed only where
 * there is memory to spare for its holes. Source: proc(5); measured 2026-11 with scripts/bench/checkpoint.ts.
 */
import { readFileSync } from "node:fs";
import type { GuestSection } from "#config/schema.ts";
import type { CheckpointMethod } from "#restoration/checkpointHead.ts";

/** Cloud Hypervisor's own shared memory is far less than any guest's. */
const fileBytesMin = 1 << 20;
/** Of what is available, so much may go to holes that become zeros. */
const spareShare = 0.5;

/** Bytes of the guest's memory that are mapped from a file; 0 where its memory is private. */
export function fileBytes(hypervisorPid: number): number {
  const bytes = kilobytes(read(`/proc/${hypervisorPid}/status`), "RssShmem");
  return bytes < fileBytesMin ? 0 : bytes;
}

export function checkpointMethod({ machine: { memory } }: GuestSection, hypervisorPid: number): CheckpointMethod {
  if (memory.shared) return "memoryFile";
  const resident = fileBytes(hypervisorPid);
  if (resident === 0) return "stream";
  const holes = Math.max(0, memory.bytes - resident);
  return holes <= kilobytes(read("/proc/meminfo"), "MemAvailable") * spareShare ? "stream" : "memoryFile";
}

const kilobytes = (text: string, name: string): number =>
  Number(new RegExp(`^${name}:\\s+(\\d+) kB$`, "m").exec(text)?.[1] ?? 0) * 1_024;

function read(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return "";
  }
}
