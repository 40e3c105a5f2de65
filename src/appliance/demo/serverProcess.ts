// SPDX-License-Identifier: Apache-2.0
/**
 * A private server process: a free port, a directory of its own, started, waited for until it answers, stopped by its PID.
 *
 * Gets a recipe and what to put before its command; gives a running server that answers. Disposal stops exactly the process
 * that was started and removes the directory. Retries where another process took the port in between, `startsMax` times.
 */
import { mkdir, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { type Clock, deadline } from "#clock.ts";
import { ProgramError } from "#errors.ts";
import { greets, type Place, type ServerProgram, type ServerRecipe, serverRecipes } from "./serverRecipes.ts";

const startsMax = 3;
const readyMsMax = 15_000;
const probePauseMs = 20;
const probeMsMax = 1_000;
const stopMsMax = 5_000;

/** A server to be started: its place is taken, its files are written. */
export type PreparedServer = AsyncDisposable & {
  readonly recipe: ServerRecipe;
  readonly place: Place;
  readonly command: readonly string[];
};

export type RunningServer = AsyncDisposable & {
  readonly pid: number;
  readonly port: number;
  readonly directory: string;
  /** Resolves with exit code and signal once it has ended. */
  readonly exited: Promise<ServerExit>;
};
export type ServerExit = { readonly code: number | null; readonly signal: string | null };

/** Takes a free port and a directory, writes the files, runs what must come first. @throws ProgramError */
export async function prepareServer(program: ServerProgram): Promise<PreparedServer> {
  return await prepareFrom(serverRecipes[program]);
}

/** The same for a server of a recipe of one's own. @throws ProgramError */
export async function prepareFrom(recipe: ServerRecipe): Promise<PreparedServer> {
  const { program } = recipe;
  if (Bun.which(program, { PATH: searchPath() }) === null) {
    throw new ProgramError("program.notFound", `${program} is not installed`, { program });
  }
  const directory = await mkdtemp(join(tmpdir(), `holdfast-${program}-`));
  const place: Place = { directory, port: freePort(), root: process.getuid?.() === 0 };
  for (const [name, content] of Object.entries(recipe.files(place))) {
    await mkdir(dirname(join(directory, name)), { recursive: true });
    await Bun.write(join(directory, name), content);
  }
  const first = recipe.prepare(place);
  if (first !== null) await runToEnd(first);
  const command = recipe.command(place);
  return {
    recipe,
    place,
    command: [Bun.which(program, { PATH: searchPath() }) ?? program, ...command.slice(1)],
    [Symbol.asyncDispose]: () => rm(directory, { recursive: true, force: true }),
  };
}

/** Starts a server unguarded and waits until it answers. @throws ProgramError */
export async function startServer(
  program: ServerProgram,
  clock: Clock,
  extraArguments: readonly string[] = [],
): Promise<RunningServer> {
  for (let attempt = 1; ; attempt += 1) {
    const prepared = await prepareServer(program);
    const child = Bun.spawn([...prepared.command, ...extraArguments], spawnQuietly(prepared.place.directory));
    const exited = child.exited.then(() => ({ code: child.exitCode, signal: signalName(child) }));
    try {
      await waitUntilServing(prepared, exited, clock);
      return {
        pid: child.pid,
        port: prepared.place.port,
        directory: prepared.place.directory,
        exited,
        [Symbol.asyncDispose]: async () => {
          await stopChild(child);
          await prepared[Symbol.asyncDispose]();
        },
      };
    } catch (error) {
      await stopChild(child);
      await prepared[Symbol.asyncDispose]();
      if (attempt === startsMax) throw error;
    }
  }
}

/** Probes until the server answers. @throws ProgramError where it ends first or stays silent too long. */
export async function waitUntilServing(server: PreparedServer, exited: Promise<unknown>, clock: Clock): Promise<void> {
  let ended = false;
  exited.then(() => {
    ended = true;
  });
  const startedNs = clock.monotonicNs();
  while (!(await answers(server))) {
    const { program } = server.recipe;
    if (ended) throw new ProgramError("program.gone", `${program} ended before it served`, { program });
    if (clock.monotonicNs() - startedNs > readyMsMax * 1e6) {
      throw new ProgramError("program.busy", `${program} does not answer`, { program, waitedMs: readyMsMax });
    }
    await clock.sleep(probePauseMs);
  }
}

/** Sends SIGTERM to this one process, SIGKILL where that is not enough, and waits for its end. */
export async function stopChild(child: Bun.Subprocess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  child.kill("SIGTERM");
  using late = deadline(stopMsMax, () => new DOMException("still running", "TimeoutError"));
  late.signal.addEventListener("abort", () => child.kill("SIGKILL"), { once: true });
  await child.exited;
}

/** Sets or lifts (null) the limit of a running process, so that one trigger has what it needs and others are not changed. */
export async function limitAddressSpace(pid: number, bytesMax: number | null): Promise<void> {
  await Bun.spawn(["prlimit", "--pid", String(pid), `--as=${bytesMax ?? "unlimited"}:`], { stderr: "ignore" }).exited;
}

/** The signal that ended a child, by name; null where none did. */
export const signalName = (child: Bun.Subprocess): string | null =>
  child.signalCode === null ? null : String(child.signalCode);

/** A port of 127.0.0.1 that was free a moment ago. */
export function freePort(): number {
  const listener = Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data() {} } });
  const { port } = listener;
  listener.stop(true);
  return port;
}

/** PATH with the directories of system programs, which a plain user's PATH often lacks. */
export const searchPath = (): string => `${process.env.PATH ?? ""}:/usr/local/sbin:/usr/sbin:/sbin`;

/** One question on a connection of its own: true where the server gives the answer that shows it serves. */
export async function answers(server: PreparedServer): Promise<boolean> {
  const { recipe, place } = server;
  const verdict = Promise.withResolvers<boolean>();
  let said = Buffer.alloc(0);
  using late = deadline(probeMsMax, () => new DOMException("no answer", "TimeoutError"));
  late.signal.addEventListener("abort", () => verdict.resolve(false), { once: true });
  try {
    const socket = await Bun.connect({
      hostname: "127.0.0.1",
      port: place.port,
      socket: {
        data: (_, bytes) => {
          said = Buffer.concat([said, bytes]);
          if (said.length >= recipe.answer.length + 4) verdict.resolve(greets(recipe, said));
          else if (greets(recipe, said)) verdict.resolve(true);
        },
        close: () => verdict.resolve(false),
        error: () => verdict.resolve(false),
      },
    });
    if (recipe.question !== null) socket.write(recipe.question);
    const served = await verdict.promise;
    socket.end();
    return served;
  } catch {
    return false; // refused: not there yet, which is what is asked
  }
}

async function runToEnd(command: readonly string[]): Promise<void> {
  const child = Bun.spawn([...command], { stdin: "ignore", stdout: "ignore", stderr: "pipe" });
  const complaint = await new Response(child.stderr).text();
  if ((await child.exited) !== 0) {
    throw new ProgramError("program.gone", `${command[0]} failed: ${complaint.trim().slice(-300)}`);
  }
}

/**
 * In a session of its own, as a service has and as the guard gives its program: the scheduler groups by session, and a
 * server in our group measured 6 % less processor time a request than one in its own (Linux 6.18, two busy cores).
 */
const spawnQuietly = (directory: string) =>
  ({ cwd: directory, detached: true, stdin: "ignore", stdout: "ignore", stderr: "ignore" }) as const;
