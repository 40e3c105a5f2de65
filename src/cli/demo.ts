// SPDX-License-Identifier: Apache-2.0
/**
 * `holdfast demo`: crashes a guarded redis-server of its own again and again while clients check every answer.
 *
 * Exit code 0: at least one crash happened, all were survived and nobody was harmed. 1: something was harmed. 130: stopped
 * by Ctrl-C, everything removed.
 */
import { type Command, InvalidArgumentError } from "commander";
import { runDemo } from "#appliance/demo/demo.ts";
import { ownCommand } from "#appliance/demo/guardProcess.ts";
import { openDisplay } from "#appliance/demo/screen.ts";
import { summaryLines } from "#appliance/demo/summary.ts";
import { systemClock } from "#clock.ts";
import { exitCodes, signalExitFrom } from "./exitCodes.ts";
import { terminalSize } from "./terminalSize.ts";

type DemoFlags = { readonly json?: true; readonly seconds?: number; readonly state?: string; readonly seed: number };

const secondsMax = 86_400;
const exitInterrupted = signalExitFrom + 2;

export function addDemo(program: Command): void {
  program
    .command("demo")
    .description("crash a guarded redis-server of its own, again and again, while clients check every answer")
    .option("--json", "write the guard's lines and those of the demo as JSON")
    .option("--seconds <n>", "go on crashing it for so long (default: each crash once)", readSeconds)
    .option("--state <dir>", "keep the record of the faults in this directory")
    .option("--seed <n>", "what the clients say is drawn from this number", readSeed, 1)
    .action(demo);
}

async function demo(flags: DemoFlags): Promise<void> {
  const interrupted = new AbortController();
  const interrupt = (): void => interrupted.abort(new DOMException("interrupted", "AbortError"));
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.once(signal, interrupt);
  const display = openDisplay(flags.json === true, {
    write: (text) => process.stdout.write(text),
    environment: process.env,
    isTerminal: process.stdout.isTTY === true,
    size: terminalSize,
  });
  try {
    const report = await runDemo({
      ...{ holdfast: ownCommand(), seconds: flags.seconds ?? null, state: flags.state ?? null, seed: flags.seed },
      ...{ clock: systemClock, display, signal: interrupted.signal },
    });
    display.event("demoSummary", report);
    for (const line of summaryLines(report, howItIsRun())) display.say(line);
    process.exitCode = report.harmed === null ? exitCodes.ok : exitCodes.no;
  } catch (error) {
    if (!interrupted.signal.aborted) throw error;
    display.say("Stopped; server, clients and files are gone.");
    process.exitCode = exitInterrupted;
  } finally {
    for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.removeListener(signal, interrupt);
  }
}

const howItIsRun = (): string => (ownCommand().length === 1 ? "holdfast" : "./scripts/holdfast");

function readSeconds(text: string): number {
  const seconds = Number(text);
  if (!(seconds > 0 && seconds <= secondsMax)) throw new InvalidArgumentError(`between 0 and ${secondsMax}.`);
  return seconds;
}

function readSeed(text: string): number {
  const seed = Number(text);
  if (!Number.isSafeInteger(seed) || seed < 0) throw new InvalidArgumentError("a whole number from 0 on.");
  return seed;
}
