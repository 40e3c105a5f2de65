// SPDX-License-Identifier: Apache-2.0
/**
 * Whether a command can be guarded, before it is started. Gets the words of a command line and PATH; gives the file that
 * will run, following scripts to their interpreters.
 *
 * Limits: interpreters are followed 4 deep; the first 256 bytes of a file are read. Source: execve(2), elf(5).
 */
import { accessSync, closeSync, constants, openSync, readSync, statSync } from "node:fs";
import { delimiter, join } from "node:path";
import { ProgramError } from "#errors.ts";
import type { Architecture } from "#fault.ts";

const interpretersMax = 4;
const headBytes = 256;
const elfMachines: Readonly<Record<number, Architecture>> = { 62: "x86_64", 183: "aarch64" };

/** Architecture of this processor, or null where it is none that we guard. */
export function hostArchitecture(): Architecture | null {
  return process.arch === "x64" ? "x86_64" : process.arch === "arm64" ? "aarch64" : null;
}

/**
 * The path of the ELF file that `command` runs in the end.
 * @throws ProgramError "program.notFound", "program.notExecutable", "program.unsupported"
 */
export function resolveProgram(command: string, searchPath: string, host: Architecture | null): string {
  let path = findOnPath(command, searchPath);
  for (let depth = 0; depth <= interpretersMax; depth += 1) {
    const head = readHead(path);
    const interpreter = scriptInterpreter(head);
    if (interpreter === null) {
      requireElf(path, head, host);
      return path;
    }
    path = findOnPath(interpreter, searchPath);
  }
  throw new ProgramError(
    "program.unsupported",
    `${command} is a script whose interpreter is a script, more than ${interpretersMax} deep; name the real program`,
  );
}

function findOnPath(command: string, searchPath: string): string {
  const places = command.includes("/")
    ? [command]
    : searchPath.split(delimiter).map((folder) => join(folder || ".", command));
  let denied: string | null = null;
  for (const place of places) {
    const found = executableAt(place);
    if (found === "yes") return place;
    if (found === "denied") denied ??= place;
  }
  if (denied !== null) {
    throw new ProgramError(
      "program.notExecutable",
      `${denied} is there but may not be executed; chmod +x it, or name another program`,
    );
  }
  const where = command.includes("/") ? "there is no such file" : "it is on no folder of PATH";
  throw new ProgramError("program.notFound", `cannot start ${command}: ${where}`);
}

function executableAt(path: string): "yes" | "denied" | "absent" {
  try {
    if (!statSync(path).isFile()) return "denied";
    accessSync(path, constants.X_OK);
    return "yes";
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "EACCES" ? "denied" : "absent";
  }
}

function readHead(path: string): Uint8Array {
  const head = new Uint8Array(headBytes);
  let descriptor = -1;
  try {
    descriptor = openSync(path, "r");
    return head.subarray(0, readSync(descriptor, head));
  } catch (error) {
    throw new ProgramError("program.notExecutable", `cannot read ${path} to see what kind of program it is`, {}, error);
  } finally {
    if (descriptor >= 0) closeSync(descriptor);
  }
}

/** The first word after `#!`; for `env NAME` the NAME. null where the file is no script. */
export function scriptInterpreter(head: Uint8Array): string | null {
  if (head[0] !== 0x23 || head[1] !== 0x21) return null;
  const words = new TextDecoder().decode(head.subarray(2)).split("\n")[0]!.trim().split(/\s+/);
  const wanted = words[0]?.endsWith("/env")
    ? words.slice(1).find((word) => !word.startsWith("-") && !word.includes("="))
    : words[0];
  return wanted === undefined || wanted === "" ? null : wanted;
}

function requireElf(path: string, head: Uint8Array, host: Architecture | null): void {
  const refuse = (what: string): ProgramError => new ProgramError("program.unsupported", `${path} ${what}`);
  if (head[0] !== 0x7f || head[1] !== 0x45 || head[2] !== 0x4c || head[3] !== 0x46) {
    throw refuse("is neither an ELF program nor a script with an interpreter line");
  }
  if (head[4] !== 2) throw refuse("is a 32-bit program; only 64-bit x86 and AArch64 programs can be guarded");
  const machine = elfMachines[head[18]! | (head[19]! << 8)];
  if (machine === undefined) throw refuse("is for a processor that is neither 64-bit x86 nor AArch64");
  if (host !== null && machine !== host) throw refuse(`is for ${machine}, this machine is ${host}`);
}
