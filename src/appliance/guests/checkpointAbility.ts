// SPDX-License-Identifier: Apache-2.0
/**
 * Whether a guest can have checkpoints here, and whether its memory may arrive on demand. Gets its section and the running
 * Cloud Hypervisor; gives the reason why not, or null. Reads /proc and /sys; changes nothing but a probe beside a disk.
 *
 * Source: v53.0 and what was found by running it: a glibc build dies in its seccomp filter when it snapshots a guest whose
 * memory is a file; transparent huge pages in shared memory crash a guest that is restored on demand (issue 8663).
 */
import { closeSync, openSync, readFileSync, readSync, rmSync, writeFileSync } from "node:fs";
import { cloneFile } from "#board/native/reflink.ts";
import type { GuestSection } from "#config/schema.ts";
import { explain } from "#errors.ts";
import type { Hypervisor } from "#vm/hypervisor.ts";
import { pageBytes } from "#vm/offload/guestRam.ts";
import { fileBytes } from "./checkpointMethod.ts";

/** The only release whose migration protocol is known line by line. */
const release = 53;
const shmemHugePages = "/sys/kernel/mm/transparent_hugepage/shmem_enabled";
const elfHeadBytes = 4_096;
const programInterpreter = 3;

export function whyNoCheckpoint(section: GuestSection, hypervisor: Hypervisor): string | null {
  const { version, pid } = hypervisor;
  const { memory, disks } = section.machine;
  if (version.kind !== "known" || version.release !== release) {
    return `the migration protocol of Cloud Hypervisor ${version.name} is not known; v${release}.0 is`;
  }
  if (memory.hugepages) return "its memory is in huge pages (hugepages = true)";
  if (kernelPageBytes() !== pageBytes) return `the kernel's pages have ${kernelPageBytes()} bytes, not ${pageBytes}`;
  if ((memory.shared || fileBytes(pid) > 0) && diesAtSnapshot(pid)) {
    return "this build of Cloud Hypervisor is dynamically linked and would die in its seccomp filter: install the static one";
  }
  for (const { path, readonly } of disks) {
    const why = readonly ? null : whyNoClone(path);
    if (why !== null) return `its disk ${path} could not be kept in step with its memory: ${why}`;
  }
  return null;
}

/** Why a restore must bring all memory before the guest runs, or null where it may come on demand. */
export function whyNotLazy(otherUser: boolean): string | null {
  const shmem = read(shmemHugePages);
  const chosen = /\[(\w+)\]/.exec(shmem)?.[1] ?? "never";
  if (!["never", "advise", "deny"].includes(chosen)) return `${shmemHugePages} says ${chosen}`;
  const permitted = read("/proc/sys/vm/unprivileged_userfaultfd").trim() === "1";
  if (permitted || (!otherUser && process.getuid?.() === 0)) return null;
  return opens("/dev/userfaultfd") && !otherUser ? null : "userfaultfd may not be used by Cloud Hypervisor's user";
}

/** Tried, with an empty file beside the disk. */
function whyNoClone(disk: string): string | null {
  const [probe, clone] = [`${disk}.probe`, `${disk}.probe.clone`];
  try {
    writeFileSync(probe, "");
    cloneFile(probe, clone);
    return null;
  } catch (error) {
    return explain(error);
  } finally {
    for (const path of [probe, clone]) rmSync(path, { force: true });
  }
}

/** Linked dynamically, with its filter on. */
function diesAtSnapshot(pid: number): boolean {
  const words = read(`/proc/${pid}/cmdline`).split("\0");
  const filter = words[words.indexOf("--seccomp") + 1];
  const open = words.includes("--seccomp") && (filter === "log" || filter === "false");
  return !open && hasInterpreter(`/proc/${pid}/exe`);
}

/** An ELF file with a program header that names a loader. */
export function hasInterpreter(path: string): boolean {
  const bytes = new Uint8Array(elfHeadBytes);
  try {
    const file = openSync(path, "r");
    try {
      readSync(file, bytes, 0, bytes.length, 0);
    } finally {
      closeSync(file);
    }
  } catch {
    return false;
  }
  const view = new DataView(bytes.buffer);
  if (view.getUint32(0) !== 0x7f454c46) return false;
  const [at, size, count] = [Number(view.getBigUint64(32, true)), view.getUint16(54, true), view.getUint16(56, true)];
  return Array.from({ length: count }, (_, index) => at + index * size)
    .filter((offset) => offset + 4 <= bytes.length)
    .some((offset) => view.getUint32(offset, true) === programInterpreter);
}

const kernelPageBytes = (): number => {
  const match = /^KernelPageSize:\s+(\d+) kB/m.exec(read("/proc/self/smaps"));
  return match === null ? pageBytes : Number(match[1]) * 1_024;
};

function opens(path: string): boolean {
  try {
    closeSync(openSync(path, "r+"));
    return true;
  } catch {
    return false;
  }
}

function read(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return "";
  }
}
