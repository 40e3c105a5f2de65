// SPDX-License-Identifier: Apache-2.0
/**
 * What /proc says of a process and its threads. Gets ids; gives plain values, or null where the process is gone.
 *
 * Every read is one short synchronous call on procfs; nothing here stops or changes a process. Source: proc(5).
 */
import { existsSync, readdirSync, readFileSync, readlinkSync } from "node:fs";
import { address, type VirtualAddress } from "#fault.ts";
import { readSmall } from "./keptFile.ts";

/** `/proc/PID/status`, the lines we use. */
export type ProcessStatus = {
  readonly name: string;
  readonly state: string;
  readonly uid: number;
  readonly tracerPid: number;
  readonly threads: number;
  /** Process id in the innermost pid namespace: what the program itself calls its pid. */
  readonly innermostPid: number;
  /** Bit n-1 is set where signal n has a handler. */
  readonly caughtSignals: bigint;
  /** Times the thread gave up the processor by itself: it waited for something, or it was stopped. */
  readonly voluntarySwitches: number;
};

/** Where a thread is blocked in the kernel. */
export type BlockedThread = {
  /** Number of the system call, -1 for other waits (a page fault). */
  readonly syscall: number;
  readonly arguments: readonly bigint[];
  readonly sp: VirtualAddress;
  readonly pc: VirtualAddress;
};

export function readStatus(pid: number, tid = pid): ProcessStatus | null {
  const text = readSmall(`/proc/${pid}/task/${tid}/status`);
  return text === null ? null : parseStatus(text, pid);
}

/** The text of `/proc/PID/task/TID/status`, from wherever it was read. */
export function parseStatus(text: string, pid: number): ProcessStatus {
  const field = (name: string): string => {
    const from = text.indexOf(`\n${name}:`);
    return from < 0 ? "" : text.slice(from + name.length + 2, text.indexOf("\n", from + 1)).trim();
  };
  return {
    name: text.slice("Name:\t".length, text.indexOf("\n")),
    state: field("State").slice(0, 1),
    uid: Number(field("Uid").split("\t")[0]),
    tracerPid: Number(field("TracerPid")),
    threads: Number(field("Threads")),
    innermostPid: Number(field("NSpid").split("\t").at(-1)) || pid,
    caughtSignals: BigInt(`0x${field("SigCgt") || "0"}`),
    voluntarySwitches: Number(field("voluntary_ctxt_switches")),
  };
}

/** For how many descriptors the process has room, from the text of `/proc/PID/status`: none is above. */
export const tableSizeIn = (text: string): number => Number(/^FDSize:\s*(\d+)/m.exec(text)?.[1] ?? 0);

/** The process that started it, or has adopted it since; null where it is gone. */
export function readParent(pid: number): number | null {
  const text = readSmall(`/proc/${pid}/stat`);
  return text === null ? null : Number(fieldsOf(text)[1]);
}

/** Clock ticks from boot to the start of the process: with the pid it names one process for ever. */
export function readStartTicks(pid: number): number | null {
  const text = readSmall(`/proc/${pid}/stat`);
  // Field 22.
  return text === null ? null : Number(fieldsOf(text)[19]);
}

/**
 * How a process ended that its parent has not asked about yet: wait status as of wait(2), null where it runs or is gone.
 * Only for whoever may trace it; others are told 0 by the kernel.
 */
export function readWaitStatus(pid: number): number | null {
  const text = readSmall(`/proc/${pid}/stat`);
  if (text === null) return null;
  const fields = fieldsOf(text);
  return fields[0] === "Z" ? Number(fields[49]) : null;
}

/** Processor time of a thread so far, ns; null where it is gone, or where the kernel does not count (`CONFIG_SCHED_INFO`). */
export function readProcessorNs(pid: number, tid: number): number | null {
  const text = readSmall(`/proc/${pid}/task/${tid}/schedstat`);
  return text === null ? null : parseProcessorNs(text);
}

/** The same from the text of `schedstat`. */
export const parseProcessorNs = (text: string): number => Number(text.slice(0, text.indexOf(" ")));

/** Processor time of all threads of a process so far, in clock ticks; null where it is gone. */
export function readProcessTicks(pid: number): number | null {
  const text = readSmall(`/proc/${pid}/stat`);
  return text === null ? null : parseProcessTicks(text);
}

/** The same from the text of `/proc/PID/stat`. */
export function parseProcessTicks(text: string): number {
  // User and system time are fields 14 and 15.
  const fields = fieldsOf(text);
  return Number(fields[11]) + Number(fields[12]);
}

/** How many threads the process has, from the text of `/proc/PID/stat` (field 20). */
export const parseThreadCount = (text: string): number => Number(fieldsOf(text)[17]);

/** True while the process exists and is no zombie. */
export function isAlive(pid: number): boolean {
  const text = readSmall(`/proc/${pid}/stat`);
  const state = text?.[text.lastIndexOf(")") + 2];
  return state !== undefined && state !== "Z" && state !== "X";
}

/**
 * Whether no task of the machine has the id that a program once gave to a thread; false where the program counts in a name
 * space of its own.
 */
export function hasDied(pid: number, tid: number): boolean {
  return readStatus(pid)?.innermostPid === pid && !existsSync(`/proc/${tid}`);
}

/** The numbers of its open files; none where the process is ending. */
export function readDescriptors(pid: number): number[] {
  try {
    return readdirSync(`/proc/${pid}/fd`).map(Number);
  } catch {
    return [];
  }
}

/** Ids of all threads; empty where the process is gone. */
export function readThreads(pid: number): number[] {
  try {
    return readdirSync(`/proc/${pid}/task`).map(Number);
  } catch {
    return [];
  }
}

/** Where the thread is blocked; null while it runs, or where it is gone. Needs the right to trace it. */
export function readBlocked(pid: number, tid: number): BlockedThread | null {
  return parseBlocked(readSmall(`/proc/${pid}/task/${tid}/syscall`) ?? "running");
}

/** The whole of `/proc/PID/maps`; null where the process is gone or may not be read. */
export function readMaps(pid: number): string | null {
  return readLarge(`/proc/${pid}/maps`);
}

export function readCommandLine(pid: number): string[] {
  return readLarge(`/proc/${pid}/cmdline`)?.split("\0").slice(0, -1) ?? [];
}

/** The file that the process runs; null where that may not be read. */
export function readExecutable(pid: number): string | null {
  try {
    return readlinkSync(`/proc/${pid}/exe`);
  } catch {
    return null;
  }
}

/** One line of `/proc/PID/task/TID/syscall`: `running`, or `NR ARG×6 SP PC`, or `-1 SP PC`. */
export function parseBlocked(line: string): BlockedThread | null {
  const words = line.trim().split(" ");
  if (words.length < 3) return null;
  const values = words.slice(1).map((word) => (/^0x[0-9a-f]{1,16}$/.test(word) ? BigInt(word) : null));
  if (values.includes(null) || !/^-?\d+$/.test(words[0]!)) return null;
  const numbers = values as bigint[];
  return {
    syscall: Number(words[0]),
    arguments: numbers.slice(0, -2),
    sp: address(numbers.at(-2)!),
    pc: address(numbers.at(-1)!),
  };
}

/** Fields of `/proc/PID/stat` from the third on: the second, a name, may hold spaces and brackets. */
const fieldsOf = (text: string): string[] => text.slice(text.lastIndexOf(")") + 2).split(" ");

function readLarge(path: string): string | null {
  try {
    return readFileSync(path, "utf8");
  } catch {
    // Gone between two looks, or not ours to read: both mean that there is nothing to say about it.
    return null;
  }
}
