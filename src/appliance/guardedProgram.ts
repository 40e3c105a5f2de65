// SPDX-License-Identifier: Apache-2.0
/**
 * The program of a guard: started by us, attached by pid, or taken over from an earlier supervisor.
 *
 * Gets a command or a pid; gives a process that outlives us. A started program has a session of its own, so Ctrl-C at our
 * terminal never reaches it directly. Its end is known by its parent (us) or, where it is not our child, by the stub.
 */
import { readFileSync, realpathSync, writeFileSync } from "node:fs";
import { getPriority, setPriority } from "node:os";
import { explain, ProgramError, StorageError } from "#errors.ts";
import { linuxSignalName, linuxSignalNumber } from "#monitor/gdb/signals.ts";
import { readStartTicks } from "#monitor/processes.ts";
import { hostArchitecture, resolveProgram } from "#monitor/programFile.ts";
import type { Claim } from "./claim.ts";
import { type Portrait, portrayProgram } from "./daemon.ts";
import { writeRunRecord } from "./runRecord.ts";

/** Both null: it has ended, and nobody who saw how has told us. */
export type ProgramEnd = { readonly code: number | null; readonly signal: string | null };

export type GuardedProgram = {
  readonly pid: number;
  /** How we came to it. Only a started or taken-over program is ours to stop. */
  readonly origin: "started" | "attached" | "takenOver";
  /** An earlier supervisor saw it wait for work. */
  readonly served: boolean;
  /** By which its successor is known, where it goes to the background. */
  readonly portrait: Portrait | null;
  /** Resolves when it has ended; null where only the stub will know. */
  readonly ended: Promise<ProgramEnd> | null;
};

export type ProgramOptions = {
  readonly command: readonly string[];
  readonly runDirectory: string;
  /** Send the program's standard output to standard error, because ours carries JSON. */
  readonly outputToError: boolean;
  /** Where and as whom it runs, where that differs from us. */
  readonly setting?: ProgramSetting | undefined;
};

export type ProgramSetting = {
  readonly directory?: string | undefined;
  readonly user?: string | undefined;
  readonly group?: string | undefined;
  /** Beside our own variables. */
  readonly environment?: Readonly<Record<string, string>> | undefined;
};

/** What still runs under the claimed name; null where nothing does. */
export const takenOverProgram = (claim: Claim): GuardedProgram | null =>
  claim.running === null ? null : notOurChild(claim.running.pid, "takenOver", claim);

/** Starts the command. @throws ProgramError, StorageError */
export function startProgram({ command, runDirectory, outputToError, setting }: ProgramOptions): GuardedProgram {
  const file = requireStartable(command);
  const child = spawn(command, outputToError, setting ?? {});
  asAnyProgram(child.pid);
  const portrait = portrayProgram(child.pid, realPath(file));
  const ended = child.exited.then(() => ({
    code: child.exitCode,
    signal: child.signalCode === null ? null : nameOfSignal(child.signalCode),
  }));
  try {
    noteProgram(runDirectory, child.pid, command);
  } catch (error) {
    child.kill("SIGKILL");
    throw error;
  }
  return { pid: child.pid, origin: "started", served: false, portrait, ended };
}

/** The runtime names signals, but gives a real-time one by its number. */
const nameOfSignal = (signal: string | number): string =>
  /^\d+$/.test(String(signal)) ? linuxSignalName(Number(signal)) : String(signal);

/** Notes a program that runs already. @throws ProgramError "program.gone", StorageError "storage.io" */
export function attachedProgram(pid: number, claim: Claim): GuardedProgram {
  if (claim.running === null) noteProgram(claim.runDirectory, pid, null);
  return notOurChild(pid, "attached", claim);
}

const notOurChild = (pid: number, origin: "takenOver" | "attached", { running }: Claim): GuardedProgram => ({
  pid,
  origin,
  served: running?.served === true,
  portrait: portrayProgram(pid),
  ended: null,
});

/** The file that the command runs in the end. @throws ProgramError where it cannot be started and guarded */
export function requireStartable(command: readonly string[]): string {
  const path = process.env.PATH ?? "/usr/local/bin:/usr/bin:/bin";
  return resolveProgram(command[0]!, path, hostArchitecture());
}

function realPath(path: string): string {
  try {
    return realpathSync(path);
  } catch {
    return path; // Removed meanwhile: then it is nobody's file.
  }
}

function spawn(command: readonly string[], outputToError: boolean, setting: ProgramSetting): Bun.Subprocess {
  const { directory, environment } = setting;
  try {
    return Bun.spawn([...become(setting), ...command], {
      stdio: ["inherit", outputToError ? 2 : "inherit", "inherit"],
      detached: true,
      ...(directory === undefined ? {} : { cwd: directory }),
      // Said each time: the runtime would hand on what it was itself started with.
      env: { ...process.env, ...environment },
    });
  } catch (error) {
    throw new ProgramError("program.notExecutable", `cannot start ${command[0]}: ${explain(error)}`, {}, error);
  }
}

/** As we were started; we raise our own later. */
const priorityBefore = getPriority();

/** We run before others and are spared when memory runs out; a program that we start is one like any other. */
function asAnyProgram(pid: number): void {
  try {
    if (getPriority() !== priorityBefore) setPriority(pid, priorityBefore);
    if (Number(readFileSync("/proc/self/oom_score_adj", "latin1")) < 0)
      writeFileSync(`/proc/${pid}/oom_score_adj`, "0");
  } catch {
    // It has ended already, or /proc is not ours to write: it runs as we do.
  }
}

/** setpriv(1) becomes the program, so the process stays the one that we have started. */
function become({ user, group }: ProgramSetting): string[] {
  if (user === undefined && group === undefined) return [];
  const asUser = user === undefined ? [] : [`--reuid=${user}`];
  const asGroup = group !== undefined ? [`--regid=${group}`] : [];
  return ["setpriv", ...asUser, ...asGroup, user === undefined ? "--clear-groups" : "--init-groups", "--"];
}

export function noteProgram(runDirectory: string, pid: number, command: readonly string[] | null): void {
  const startTicks = readStartTicks(pid);
  if (startTicks === null) throw new ProgramError("program.gone", `process ${pid} is gone`);
  const directory = command === null ? null : process.cwd();
  try {
    writeRunRecord(runDirectory, { pid, startTicks, command, directory, served: false });
  } catch (error) {
    throw new StorageError("storage.io", `the run directory ${runDirectory} cannot be written: ${explain(error)}`);
  }
}

/** Sends a signal by name; null where it arrived or came too late, else why it was refused. */
export function signalProgram(pid: number, signal: NodeJS.Signals): string | null {
  try {
    process.kill(pid, signal);
    return null;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "ESRCH" ? null : explain(error);
  }
}

/** How a process ended, from a wait status (wait(2)); not known where there is none. */
export function readEnd(waitStatus: number | null): ProgramEnd {
  if (waitStatus === null) return { code: null, signal: null };
  const signal = waitStatus & 0x7f;
  return signal === 0
    ? { code: (waitStatus >> 8) & 0xff, signal: null }
    : { code: null, signal: linuxSignalName(signal) };
}

/** The exit code a shell would show: the program's own, or 128 plus the number of the signal; null where not known. */
export function exitCodeOf({ code, signal }: ProgramEnd): number | null {
  if (signal === null) return code;
  return 128 + (linuxSignalNumber(signal) ?? 0);
}
