// SPDX-License-Identifier: Apache-2.0
/**
 * `holdfast guard`: starts a program, or attaches to a running one, and guards it until it ends or is let go.
 *
 * Exit code: the program's own (128 + signal number where a signal ended it); 0 after letting go.
 */
import { basename } from "node:path";
import { type Command, InvalidArgumentError } from "commander";
import { runGuard, stopInOrder } from "#appliance/guard.ts";
import { attachedProgram, type GuardedProgram, signalProgram, startProgram } from "#appliance/guardedProgram.ts";
import { openProbes, openTrace } from "#appliance/guardOptions.ts";
import { Notices } from "#appliance/notices.ts";
import { systemClock } from "#clock.ts";
import { ConfigError } from "#errors.ts";
import { openLog } from "#log.ts";
import { defaultRunDirectory, defaultStateDirectory, guardDirectory } from "#storage/ownership.ts";
import { Storage } from "#storage/storage.ts";

type GuardFlags = {
  readonly name?: string;
  readonly state?: string;
  readonly json?: true;
  readonly pid?: number;
  readonly probe: readonly string[];
  readonly trace?: string;
  readonly detachOnExit?: true;
  readonly verbose?: true;
};

const namePattern = /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/;

export function addGuard(program: Command): void {
  program
    .command("guard")
    .description("start a program (or attach to one) and keep it running through its own crashes")
    .argument("[command...]", "the program and its arguments, after --")
    .option("--name <name>", "name of this guard (default: the program's own)", readName)
    .option("--state <dir>", "state directory (default: /var/lib/holdfast, or your own)")
    .option("--json", "one JSON object a line on standard output; the program's output goes to standard error")
    .option("--pid <pid>", "attach to this running process; Ctrl-C leaves it running", readPid)
    .option("--probe <probe>", "tcp:PORT or cmd:COMMAND must succeed before a fault counts as survived", collect, [])
    .option("--trace <file>", "write every packet of the debugger stub to this file")
    .option("--detach-on-exit", "Ctrl-C leaves a started program running, unguarded")
    .option("--verbose", "log what the guard does")
    .addHelpText("after", "\nExample:\n  holdfast guard -- redis-server --port 7000")
    .action(guard);
}

async function guard(command: string[], flags: GuardFlags): Promise<void> {
  if ((flags.pid === undefined) === (command.length === 0)) {
    throw new ConfigError(
      "config.argument",
      "say either what to start (holdfast guard -- COMMAND) or --pid PID, not both",
    );
  }
  const probes = openProbes(flags.probe);
  const clock = systemClock;
  const name = flags.name ?? (flags.pid === undefined ? nameOf(command[0]!) : `pid-${flags.pid}`);
  const userId = process.getuid?.() ?? 0;
  const runDirectory = guardDirectory(defaultRunDirectory(process.env, userId), name);
  const directory = guardDirectory(flags.state ?? defaultStateDirectory(process.env, userId), name);
  const log = openLog(name, flags.verbose ? "debug" : "error", clock, (line) => process.stderr.write(`${line}\n`));
  const out = flags.json ? process.stdout : process.stderr;
  const notices = new Notices(name, flags.json ? "json" : "text", (line) => out.write(`${line}\n`));
  const trace = flags.trace === undefined ? undefined : openTrace(flags.trace, clock);

  await using storage = await Storage.open({ directory, runDirectory, clock, log });
  const running: GuardedProgram =
    flags.pid === undefined
      ? startProgram({ name, command, runDirectory, outputToError: flags.json === true })
      : attachedProgram(flags.pid, runDirectory);
  const letGo = requestsOf(running, flags.detachOnExit === true || running.origin === "attached");
  const parts = { name, program: running, runDirectory, storage, notices, probes, clock, log, trace, letGo };
  process.exitCode = await runGuard(parts);
}

/** Turns the signals that we get into requests: let go of the program, or stop it in order. */
function requestsOf(program: GuardedProgram, detach: boolean): AbortSignal {
  const letGo = new AbortController();
  let asked = 0;
  for (const signal of ["SIGINT", "SIGTERM"] as const) {
    process.on(signal, () => {
      if (detach) letGo.abort();
      else stopInOrder(program, signal, asked);
      asked += 1;
    });
  }
  process.on("SIGHUP", () => signalProgram(program.pid, "SIGHUP"));
  return letGo.signal;
}

function nameOf(file: string): string {
  const name = basename(file).replace(/[^A-Za-z0-9._-]/g, "-");
  return namePattern.test(name) ? name : "program";
}

function readName(text: string): string {
  if (!namePattern.test(text))
    throw new InvalidArgumentError("Use letters, digits, dot, dash and underscore, at most 64.");
  return text;
}

function readPid(text: string): number {
  const pid = Number(text);
  if (!/^\d{1,10}$/.test(text) || pid < 1) throw new InvalidArgumentError("A process id is a whole number from 1.");
  return pid;
}

const collect = (text: string, before: readonly string[]): readonly string[] => [...before, text];
