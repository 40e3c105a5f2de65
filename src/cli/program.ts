// SPDX-License-Identifier: Apache-2.0
/**
 * The root command: `holdfast VERB …`. Gets the words of the command line; gives the exit code.
 *
 * Each verb is a file here that exports `addVERB(program)`. All verbs are listed in the help, but only the file of the
 * one that is called is loaded, since a verb may bring half the system with it.
 */
import { Command, CommanderError } from "commander";
import { explain, HoldfastError } from "#errors.ts";
import { exitCodeOf, exitCodes } from "./exitCodes.ts";

export const version = "0.1.0";

export type Verb = {
  readonly name: string;
  readonly summary: string;
  /** Loads the verb's file and adds it, under the same name. */
  readonly add: (program: Command) => Promise<void>;
};

const examples = `
Examples:
  holdfast demo                               crash a real redis-server again and again, and watch it go on
  holdfast guard -- redis-server --port 7000  start a program and guard it
  holdfast guard --pid 4242                   guard a program that runs; Ctrl-C leaves it running
  holdfast faults                             what happened, newest first
  holdfast doctor                             what this machine can do, what it cannot, and why

Every verb has its own help: holdfast VERB --help. Exit codes are listed in README.md.`;

/** Runs one command line. Messages go to `complain`; what a verb prints is its own. Never throws. */
export async function run(
  words: readonly string[],
  verbs: readonly Verb[],
  complain = (text: string): void => void process.stderr.write(text),
): Promise<number> {
  try {
    const program = await compose(words, verbs, complain);
    await program.parseAsync([...words], { from: "user" });
    return exitCodes.ok;
  } catch (error) {
    // Commander has printed its own message by then.
    if (error instanceof CommanderError) return error.exitCode === 0 ? exitCodes.ok : exitCodes.usage;
    complain(`holdfast: ${explain(error)}\n${isBug(error) ? `${trace(error)}\n` : ""}`);
    return exitCodeOf(error);
  }
}

async function compose(
  words: readonly string[],
  verbs: readonly Verb[],
  complain: (text: string) => void,
): Promise<Command> {
  const program = new Command("holdfast")
    .description("Keeps server programs running through their own crashes, in place, without rollback.")
    .version(version, "-V, --version", "print the version")
    .helpOption("-h, --help", "print help")
    .helpCommand("help [verb]", "print help for a verb")
    .usage("VERB [options]")
    .showSuggestionAfterError(true)
    .enablePositionalOptions()
    .exitOverride()
    .configureOutput({
      writeErr: complain,
      outputError: (text, write) => write(oneLine(text, words)),
    })
    .addHelpText("after", examples);
  const called = words.find((word) => !word.startsWith("-") && word !== "help");
  for (const verb of verbs) {
    if (verb.name === called) await verb.add(program);
    else program.command(verb.name).description(verb.summary);
  }
  return program;
}

/** Commander's message as one line that ends in where to look. */
function oneLine(text: string, words: readonly string[]): string {
  const said = text
    .trim()
    .replace(/^error: /, "")
    .replaceAll(/\s*\n\s*/g, " ");
  const verb = words.find((word) => /^[a-z]+$/.test(word));
  const where =
    /unknown command|missing verb/.test(said) || verb === undefined ? "holdfast --help" : `holdfast ${verb} --help`;
  return `holdfast: ${said} (see ${where})\n`;
}

const isBug = (error: unknown): boolean => !(error instanceof HoldfastError) || error.code === "bug";

const trace = (error: unknown): string =>
  error instanceof Error && error.stack !== undefined ? error.stack : "no stack";
