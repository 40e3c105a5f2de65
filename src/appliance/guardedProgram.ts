// SPDX-License-Identifier: Apache-2.0
/**
 * The program of a guard: started by us, attached by pid, or taken over from an earlier supervisor.
 *
 * Gets a command or a pid; gives a process that outlives us. A started program has a session of its own, so Ctrl-C at our
 * terminal never reaches it directly. Its end is known by its parent (us) or, where it is not our child, by the stub.
 */
import { constants } from "node:os";
import { explain, ProgramError } from "#errors.ts";
import { readCommandLine, readStartTicks } from "#monitor/processes.ts";
import { hostArchitecture, resolveProgram } from "#monitor/programFile.ts";
import { readRunRecord, writeRunRecord } from "./runRecord.ts";

export type ProgramEnd = { readonly code: number | null; readonly signal: string | null };

export type GuardedProgram = {
  readonly pid: number;
  /** How we came to it. Only a started or taken-over program is ours to stop. */
  readonly origin: "started" | "attached" | "takenOver";
  /** Resolves when it has ended; null where only the stub will know. */
  readonly ended: Promise<ProgramEnd> | null;
};

export type ProgramOptions = {
  readonly name: string;
  readonly command: readonly string[];
  readonly runDirectory: string;
  /** Send the program's standard output to standard error, because ours carries JSON. */
  readonly outputToError: boolean;
};

/** Takes over what still runs under this name, or starts the command. @throws ProgramError */
export function startProgram(options: ProgramOptions): GuardedProgram {
  const { command, runDirectory, name } = options;
  const running = readRunRecord(runDirectory);
  if (running === null) return spawnProgram(options);
  if (JSON.stringify(running.command) === JSON.stringify(command)) {
    return { pid: running.pid, origin: "takenOver", ended: null };
  }
  const what = (running.command ?? readCommandLine(running.pid)).join(" ");
  throw new ProgramError(
    "program.busy",
    `the name ${name} belongs to process ${running.pid} (${what}), which still runs; choose another --name, guard it with --pid ${running.pid}, or stop it`,
  );
}

/** Notes a program that runs already. @throws ProgramError "program.gone" */
export function attachedProgram(pid: number, runDirectory: string): GuardedProgram {
  note(runDirectory, pid, null);
  return { pid, origin: "attached", ended: null };
}

function spawnProgram({ command, runDirectory, outputToError }: ProgramOptions): GuardedProgram {
  const [file, ...words] = command;
  const path = process.env.PATH ?? "/usr/local/bin:/usr/bin:/bin";
  resolveProgram(file!, path, hostArchitecture());
  const child = spawn([file!, ...words], outputToError);
  note(runDirectory, child.pid, command);
  const ended = child.exited.then(() => ({
    code: child.exitCode,
    signal: child.signalCode === null ? null : String(child.signalCode),
  }));
  return { pid: child.pid, origin: "started", ended };
}

function spawn(command: string[], outputToError: boolean): Bun.Subprocess {
  try {
    return Bun.spawn(command, { stdio: ["inherit", outputToError ? 2 : "inherit", "inherit"], detached: true });
  } catch (error) {
    throw new ProgramError("program.notExecutable", `cannot start ${command[0]}: ${explain(error)}`, {}, error);
  }
}

function note(runDirectory: string, pid: number, command: readonly string[] | null): void {
  const startTicks = readStartTicks(pid);
  if (startTicks === null) throw new ProgramError("program.gone", `process ${pid} is gone`);
  writeRunRecord(runDirectory, { pid, startTicks, command });
}

/** Sends a signal by name; a program that has ended just now needs none. */
export function signalProgram(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ESRCH") throw error;
  }
}

/** The exit code a shell would show: the program's own, or 128 plus the number of the signal that ended it. */
export function exitCodeOf(end: ProgramEnd): number {
  if (end.signal === null) return end.code ?? 0;
  return 128 + (constants.signals[end.signal as NodeJS.Signals] ?? 0);
}
