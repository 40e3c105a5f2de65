// SPDX-License-Identifier: Apache-2.0
/**
 * Files of /proc as numbers: memory, processors, network links, one process. Gets texts; gives plain values, or null where
 * a text is none of its kind (the process is gone, the kernel is older). Pure. Source: proc(5).
 */
import type { MemoryHealth } from "#health.ts";

/** Clock ticks a second and page size of all Linux kernels we run on; both checked by tests against this machine. */
export const ticksPerSecond = 100;

/** `/proc/meminfo` */
export function parseMemory(text: string): MemoryHealth | null {
  const kibibytes = (name: string): number | null => {
    const found = new RegExp(`^${name}:\\s+(\\d+) kB$`, "m").exec(text);
    return found === null ? null : Number(found[1]) * 1024;
  };
  const totalBytes = kibibytes("MemTotal");
  const availableBytes = kibibytes("MemAvailable");
  if (totalBytes === null || availableBytes === null) return null;
  const swapTotalBytes = kibibytes("SwapTotal") ?? 0;
  return { totalBytes, availableBytes, swapTotalBytes, swapFreeBytes: kibibytes("SwapFree") ?? 0 };
}

export type ProcessorTimes = {
  readonly processors: number;
  readonly processorSeconds: number;
  readonly busySeconds: number;
};

/** `/proc/stat`. Idle is idle and waiting for a disk; time of guests is in user time already. */
export function parseProcessorTimes(text: string): ProcessorTimes | null {
  const all = /^cpu +(\d+(?: \d+){6,9})$/m.exec(text)?.[1]?.split(" ").map(Number);
  if (all === undefined) return null;
  const [user, nice, system, idle, disk, irq, softIrq, stolen = 0] = all as [
    number,
    number,
    number,
    number,
    number,
    number,
    number,
    number?,
  ];
  const busy = user + nice + system + irq + softIrq + stolen;
  const processors = text.match(/^cpu\d+ /gm)?.length ?? 1;
  return { processors, processorSeconds: (busy + idle + disk) / ticksPerSecond, busySeconds: busy / ticksPerSecond };
}

export type LinkCounts = {
  readonly name: string;
  readonly receivedBytes: number;
  readonly sentBytes: number;
  readonly errors: number;
  readonly dropped: number;
};

/** `/proc/net/dev` */
export function parseLinks(text: string): LinkCounts[] {
  return [...text.matchAll(/^\s*([^\s:]+):\s*(\d+(?:\s+\d+){15})\s*$/gm)].map(([, name, numbers]) => {
    const counts = numbers!.split(/\s+/).map(Number);
    const [receivedBytes, , inErrors, inDropped] = counts as [number, number, number, number];
    const [sentBytes, , outErrors, outDropped] = counts.slice(8) as [number, number, number, number];
    const errors = inErrors + outErrors;
    return { name: name!, receivedBytes, sentBytes, errors, dropped: inDropped + outDropped };
  });
}

export type ProcessStat = {
  readonly name: string;
  readonly state: string;
  readonly minorFaults: number;
  readonly majorFaults: number;
  readonly cpuSeconds: number;
  readonly threads: number;
  readonly startTicks: number;
  readonly residentPages: number;
};

/** `/proc/PID/stat`, also of a thread. The name may hold spaces and brackets: fields count from the last bracket. */
export function parseProcessStat(text: string): ProcessStat | null {
  const [open, close] = [text.indexOf("("), text.lastIndexOf(")")];
  const fields = text.slice(close + 2).split(" ");
  if (open < 0 || close < open || fields.length < 22) return null;
  // Field n of proc(5) is fields[n - 3].
  const field = (n: number): number => Number(fields[n - 3]);
  const numbers = [10, 12, 14, 15, 20, 22, 24].map(field);
  if (numbers.some((value) => !Number.isFinite(value))) return null;
  const [minorFaults, majorFaults, user, system, threads, startTicks, residentPages] = numbers as [
    number,
    number,
    number,
    number,
    number,
    number,
    number,
  ];
  const cpuSeconds = (user + system) / ticksPerSecond;
  const name = text.slice(open + 1, close);
  return { name, state: fields[0]!, minorFaults, majorFaults, cpuSeconds, threads, startTicks, residentPages };
}

/** `/proc/PID/io`: what went through read, write and their kin. */
export function parseIoBytes(text: string): number | null {
  const found = /^rchar: (\d+)\nwchar: (\d+)$/m.exec(text);
  return found === null ? null : Number(found[1]) + Number(found[2]);
}

/** `/proc/PID/limits`: the soft limit of open files; null where there is none. */
export function parseOpenFilesMax(text: string): number | null {
  const found = /^Max open files\s+(\d+)/m.exec(text);
  return found === null ? null : Number(found[1]);
}

/** Switches that a thread made by itself, and those it was made to make, of `/proc/PID/task/TID/status`. */
export function parseSwitches(text: string): { readonly voluntary: number; readonly forced: number } | null {
  const found = /^voluntary_ctxt_switches:\t(\d+)\nnonvoluntary_ctxt_switches:\t(\d+)$/m.exec(text);
  return found === null ? null : { voluntary: Number(found[1]), forced: Number(found[2]) };
}

/** `/proc/uptime`: ms since the boot, in hundredths of a second. */
export function parseUptime(text: string): number | null {
  const seconds = /^(\d+\.\d+) /.exec(text)?.[1];
  return seconds === undefined ? null : Number(seconds) * 1000;
}
