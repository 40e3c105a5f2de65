// SPDX-License-Identifier: Apache-2.0
/**
 * The machine as its kernel describes it: load, memory, pressure, temperature, disk, clock, and our own footprint.
 *
 * Reads /proc and /sys in the page's own thread. Whatever a kernel does not offer is null, and the page says so.
 * Sources: proc(5), Documentation/accounting/psi.rst, Documentation/hwmon/sysfs-interface.rst of the kernel.
 */
import { readdirSync, readFileSync, statfsSync } from "node:fs";
import { cpus } from "node:os";

const zonesMax = 8;

export type HostFacts = {
  readonly cpus: number;
  readonly load: readonly [number, number, number] | null;
  readonly memoryBytes: number | null;
  readonly memoryAvailableBytes: number | null;
  /** Share of the last ten seconds in which some task waited, 0..1. */
  readonly pressure: Readonly<Record<"cpu" | "memory" | "io", number | null>>;
  readonly temperatures: readonly { readonly zone: string; readonly celsius: number }[];
  readonly diskBytes: number | null;
  readonly diskFreeBytes: number | null;
  readonly upSeconds: number | null;
  readonly kernel: string;
  /** Whether the clock is kept by a time service; null where the kernel does not tell. */
  readonly clockSynchronised: boolean | null;
  readonly ownBytes: number | null;
  readonly ownDescriptors: number | null;
};

export function readHost(stateDirectory: string): HostFacts {
  const memory = readText("/proc/meminfo");
  const disk = statfs(stateDirectory);
  return {
    cpus: cpus().length,
    load: readLoad(),
    memoryBytes: kilobytes(memory, "MemTotal"),
    memoryAvailableBytes: kilobytes(memory, "MemAvailable"),
    pressure: { cpu: readPressure("cpu"), memory: readPressure("memory"), io: readPressure("io") },
    temperatures: readTemperatures(),
    diskBytes: disk === null ? null : disk.blocks * disk.bsize,
    diskFreeBytes: disk === null ? null : disk.bavail * disk.bsize,
    upSeconds: numberIn(readText("/proc/uptime"), /^([\d.]+)/),
    kernel: readText("/proc/sys/kernel/osrelease").trim(),
    clockSynchronised: null,
    ownBytes: kilobytes(readText("/proc/self/status"), "VmRSS"),
    ownDescriptors: count("/proc/self/fd"),
  };
}

function readLoad(): [number, number, number] | null {
  const match = /^([\d.]+) ([\d.]+) ([\d.]+)/.exec(readText("/proc/loadavg"));
  return match === null ? null : [Number(match[1]), Number(match[2]), Number(match[3])];
}

function readPressure(resource: string): number | null {
  const percent = numberIn(readText(`/proc/pressure/${resource}`), /^some avg10=([\d.]+)/m);
  return percent === null ? null : percent / 100;
}

function readTemperatures(): { zone: string; celsius: number }[] {
  const root = "/sys/class/thermal";
  const zones = list(root).filter((name) => name.startsWith("thermal_zone"));
  return zones.slice(0, zonesMax).flatMap((name) => {
    const millis = numberIn(readText(`${root}/${name}/temp`), /^(-?\d+)/);
    const zone = readText(`${root}/${name}/type`).trim() || name;
    return millis === null ? [] : [{ zone, celsius: millis / 1000 }];
  });
}

function readText(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return ""; // This kernel or container does not have it, and the fact is shown as not known.
  }
}

function list(path: string): string[] {
  try {
    return readdirSync(path);
  } catch {
    return []; // As above.
  }
}

function count(path: string): number | null {
  const entries = list(path);
  return entries.length === 0 ? null : entries.length;
}

function statfs(path: string): { blocks: number; bavail: number; bsize: number } | null {
  try {
    return statfsSync(path);
  } catch {
    return null; // As above.
  }
}

function numberIn(text: string, pattern: RegExp): number | null {
  const match = pattern.exec(text);
  return match === null ? null : Number(match[1]);
}

function kilobytes(text: string, name: string): number | null {
  const found = numberIn(text, new RegExp(`^${name}:\\s+(\\d+) kB`, "m"));
  return found === null ? null : found * 1024;
}
