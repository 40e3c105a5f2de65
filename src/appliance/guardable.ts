// SPDX-License-Identifier: Apache-2.0
/**
 * What is found out before anything is started or touched: whether guarding can work here at all, and whether a running
 * process is one that can be guarded. Gets facts of /proc; throws an error that says what to do, or nothing.
 *
 * Source: proc(5); PROC_PID_INIT_INO of include/linux/proc_ns.h, PF_KTHREAD of include/linux/sched.h.
 */
import { readFileSync, readlinkSync } from "node:fs";
import { systemBox } from "#board/box.ts";
import { HoldfastError, ProgramError } from "#errors.ts";
import { gdbserverVersion } from "#monitor/gdb/stub.ts";
import { readStatus } from "#monitor/processes.ts";
import { hostArchitecture, resolveProgram } from "#monitor/programFile.ts";
import { requireTraceable } from "#monitor/traceable.ts";
import { tracing } from "./doctor.ts";

const firstPidNamespace = "pid:[4026531836]";
const kernelThreadFlag = 0x0020_0000;

/** @throws GdbError "gdb.start", "gdb.version"; ProgramError "program.permission" */
export async function requireMachine(): Promise<void> {
  await gdbserverVersion();
  const { status, found, effect, advice } = tracing(systemBox);
  if (status === "missing") throw new ProgramError("program.permission", `${effect} (${found}); ${advice}`);
}

/** @throws ProgramError "program.gone", "program.busy", "program.permission", "program.unsupported" */
export function requireGuardable(pid: number): void {
  const refuse = (what: string): ProgramError => new ProgramError("program.unsupported", `process ${pid} ${what}`);
  if (pid === process.pid) throw refuse("is this supervisor itself; name the server that is to be guarded");
  if (isKernelThread(pid)) throw refuse("is a thread of the kernel; only programs can be guarded");
  if (pid === 1 && inFirstNamespace()) {
    throw refuse("is the init of this machine, without which nothing runs; name the server that is to be guarded");
  }
  const leader = leaderOf(pid);
  if (leader !== null && leader !== pid) throw refuse(`is a thread of process ${leader}; say --pid ${leader}`);
  // Where somebody traces it already, that may be a stub of ours: the attach finds out, and tells.
  if ((readStatus(pid)?.tracerPid ?? 0) === 0) requireTraceable(pid);
  requireSupported(pid);
}

/** That the process runs a program of a kind that we guard. @throws ProgramError "program.unsupported" */
export function requireSupported(pid: number): void {
  try {
    resolveProgram(`/proc/${pid}/exe`, "", hostArchitecture());
  } catch (error) {
    if (!(error instanceof HoldfastError)) throw error;
    // Where its file may not be looked at, the attach itself has the last word.
    if (error.code !== "program.unsupported") return;
    const name = readStatus(pid)?.name ?? "?";
    throw new ProgramError(
      "program.unsupported",
      error.message.replace(`/proc/${pid}/exe`, `process ${pid} (${name})`),
    );
  }
}

function isKernelThread(pid: number): boolean {
  const text = read(`/proc/${pid}/stat`);
  const flags = Number(text.slice(text.lastIndexOf(")") + 2).split(" ")[6]);
  return (flags & kernelThreadFlag) !== 0;
}

function leaderOf(pid: number): number | null {
  const leader = /^Tgid:\s*(\d+)$/m.exec(read(`/proc/${pid}/status`))?.[1];
  return leader === undefined ? null : Number(leader);
}

function inFirstNamespace(): boolean {
  try {
    return readlinkSync("/proc/self/ns/pid") === firstPidNamespace;
  } catch {
    return false;
  }
}

function read(path: string): string {
  try {
    return readFileSync(path, "latin1");
  } catch {
    return "";
  }
}
