// SPDX-License-Identifier: Apache-2.0
/**
 * A real server or test program under a real guard, started as a user would: by the verb, as a process of its own.
 *
 * Gets a program; gives its port, its guard's events and whether it is still the same process. Disposal stops both.
 */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { GuardProcess } from "#appliance/demo/guardProcess.ts";
import { startTicksOf } from "#appliance/demo/processFacts.ts";
import { prepareServer, waitUntilServing } from "#appliance/demo/serverProcess.ts";
import type { ServerProgram } from "#appliance/demo/serverRecipes.ts";
import { systemClock } from "#clock.ts";

export type Guarded = AsyncDisposable & {
  readonly guard: GuardProcess;
  readonly pid: number;
  /** True while the program is the very process that was guarded first. */
  isSame(): boolean;
};

let guardsStarted = 0;

export const holdfast = [process.execPath, join(import.meta.dir, "../../src/cli/main.ts")];

/** Guards a command, or a running process by `["--pid", "7"]`. @throws ProgramError where the guard does not begin. */
export async function guardCommand(...guardArguments: readonly string[]): Promise<Guarded> {
  const scratch = await mkdtemp(join(tmpdir(), "holdfast-guarded-"));
  guardsStarted += 1;
  const state = ["--name", `test-${process.pid}-${guardsStarted}`, "--state", join(scratch, "state")];
  const guard = new GuardProcess({
    holdfast,
    guardArguments: [...state, ...guardArguments],
    logPath: join(scratch, "log"),
  });
  const end = async (): Promise<void> => {
    await guard.stop();
    await rm(scratch, { recursive: true, force: true });
  };
  try {
    const { pid } = await guard.guarding();
    const startTicks = startTicksOf(pid);
    const isSame = (): boolean => startTicks !== null && startTicksOf(pid) === startTicks;
    return { guard, pid, isSame, [Symbol.asyncDispose]: end };
  } catch (error) {
    await end();
    throw error;
  }
}

export type GuardedServer = Guarded & { readonly port: number };

/** A stock server under guard, ready to serve; `more` is added to its command. @throws ProgramError */
export async function guardServer(program: ServerProgram, ...more: readonly string[]): Promise<GuardedServer> {
  const server = await prepareServer(program);
  try {
    const guarded = await guardCommand("--", ...server.command, ...more);
    const end = async (): Promise<void> => {
      await guarded[Symbol.asyncDispose]();
      await server[Symbol.asyncDispose]();
    };
    try {
      await waitUntilServing(server, guarded.guard.exited, systemClock);
    } catch (error) {
      await end();
      throw error;
    }
    return { ...guarded, port: server.place.port, [Symbol.asyncDispose]: end };
  } catch (error) {
    await server[Symbol.asyncDispose]();
    throw error;
  }
}
