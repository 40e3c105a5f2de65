// SPDX-License-Identifier: Apache-2.0
/**
 * The C test programs of this folder: compiled, ordered about through a FIFO, read through the file that they map.
 *
 * Gets the name of a source; gives a program's command, a way to send it orders and the bytes it shares. Needs gcc or cc.
 */
import { closeSync, constants, openSync, readFileSync, writeSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ByteReader } from "#bytes.ts";
import { ProgramError } from "#errors.ts";

export type OrderedProgram = AsyncDisposable & {
  readonly command: readonly string[];
  /** Sends one order for each character. */
  order(characters: string): void;
  /** What the program has written to its mapped file so far. */
  shared(): ByteReader;
};

/** @throws ProgramError where there is no compiler or it fails. */
export async function compileOrdered(name: "stop" | "threads" | "events"): Promise<OrderedProgram> {
  const directory = await mkdtemp(join(tmpdir(), `holdfast-${name}-`));
  const [program, fifo, file] = [join(directory, name), join(directory, "orders"), join(directory, "shared")];
  await mustRun([compiler(), "-O2", "-pthread", "-o", program, join(import.meta.dir, `${name}.c`)]);
  await mustRun(["mkfifo", "-m", "600", fifo]);
  await Bun.write(file, "");
  // Read-write, so that it opens before the program does and never reports an end.
  const descriptor = openSync(fifo, constants.O_RDWR | constants.O_NONBLOCK);
  return {
    command: [program, fifo, file],
    order: (characters) => void writeSync(descriptor, characters),
    shared: () => new ByteReader(readFileSync(file)),
    [Symbol.asyncDispose]: async () => {
      closeSync(descriptor);
      await rm(directory, { recursive: true, force: true });
    },
  };
}

function compiler(): string {
  const found = Bun.which("gcc") ?? Bun.which("cc");
  if (found === null)
    throw new ProgramError("program.notFound", "no C compiler (Debian: apt-get install gcc libc6-dev)");
  return found;
}

async function mustRun(command: readonly string[]): Promise<void> {
  const child = Bun.spawn([...command], { stdin: "ignore", stdout: "ignore", stderr: "pipe" });
  const complaint = await child.stderr.text();
  if ((await child.exited) === 0) return;
  throw new ProgramError("program.gone", `${command[0]} failed: ${complaint.trim().slice(-300)}`);
}
