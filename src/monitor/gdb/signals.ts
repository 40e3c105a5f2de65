// SPDX-License-Identifier: Apache-2.0
/**
 * GDB's signal numbers, which are what travels on the wire, and Linux's names and numbers for them.
 *
 * Gets either number; gives the other and the name. Real-time signals are named SIG32 to SIG64.
 * Source: include/gdb/signals.def of GDB 13; signal(7) for x86-64 and AArch64, which agree.
 */
import { isFatal } from "#fault.ts";

/** Name, GDB's number, Linux's number. */
const named: readonly (readonly [name: string, gdb: number, linux: number])[] = [
  ["SIGHUP", 1, 1],
  ["SIGINT", 2, 2],
  ["SIGQUIT", 3, 3],
  ["SIGILL", 4, 4],
  ["SIGTRAP", 5, 5],
  ["SIGABRT", 6, 6],
  ["SIGFPE", 8, 8],
  ["SIGKILL", 9, 9],
  ["SIGBUS", 10, 7],
  ["SIGSEGV", 11, 11],
  ["SIGSYS", 12, 31],
  ["SIGPIPE", 13, 13],
  ["SIGALRM", 14, 14],
  ["SIGTERM", 15, 15],
  ["SIGURG", 16, 23],
  ["SIGSTOP", 17, 19],
  ["SIGTSTP", 18, 20],
  ["SIGCONT", 19, 18],
  ["SIGCHLD", 20, 17],
  ["SIGTTIN", 21, 21],
  ["SIGTTOU", 22, 22],
  ["SIGIO", 23, 29],
  ["SIGXCPU", 24, 24],
  ["SIGXFSZ", 25, 25],
  ["SIGVTALRM", 26, 26],
  ["SIGPROF", 27, 27],
  ["SIGWINCH", 28, 28],
  ["SIGUSR1", 30, 10],
  ["SIGUSR2", 31, 12],
  ["SIGPWR", 32, 30],
  ["SIG32", 77, 32],
  ["SIG64", 78, 64],
];
/** SIG33 to SIG63 are 45 to 75. */
const realTimeFirst = 33;
const realTimeLast = 63;
const realTimeOffset = 12;
/** GDB has no number for Linux's SIGSTKFLT (16): the stub calls it this, and hands on the right one. */
const unknownNumber = 143;

const table: readonly (readonly [string, number, number])[] = [
  ...named,
  ...Array.from({ length: realTimeLast - realTimeFirst + 1 }, (_, index) => {
    const linux = realTimeFirst + index;
    return [`SIG${linux}`, linux + realTimeOffset, linux] as const;
  }),
];
const nameByGdb = new Map(table.map(([name, gdb]) => [gdb, name]));
const gdbByName = new Map(table.map(([name, gdb]) => [name, gdb]));
const nameByLinux = new Map(table.map(([name, , linux]) => [linux, name]));
const linuxByName = new Map(table.map(([name, , linux]) => [name, linux]));

/** Linux name of GDB's number: 0 is the stop that was asked for, so SIGSTOP; `SIG?N` where Linux has none. */
export const signalName = (gdbNumber: number): string =>
  gdbNumber === 0 ? "SIGSTOP" : (nameByGdb.get(gdbNumber) ?? `SIG?${gdbNumber}`);

export const gdbSignalNumber = (name: string): number | null => gdbByName.get(name) ?? null;

export const linuxSignalName = (number: number): string => nameByLinux.get(number) ?? `SIG?${number}`;

export const linuxSignalNumber = (name: string): number | null => linuxByName.get(name) ?? null;

/** GDB's numbers of all signals that must not stop a thread: every one but the fatal ones and SIGKILL. */
export const passedSignals: readonly number[] = [
  ...table.filter(([name]) => name !== "SIGKILL" && !isFatal(name)).map(([, gdb]) => gdb),
  unknownNumber,
];

/** Whether the bit set of `SigCgt` in /proc/PID/status has a handler for this signal. */
export function isCaught(caughtSignals: bigint, signal: string): boolean {
  const number = linuxSignalNumber(signal);
  return number !== null && ((caughtSignals >> BigInt(number - 1)) & 1n) === 1n;
}
