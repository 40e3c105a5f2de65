// SPDX-License-Identifier: Apache-2.0
/**
 * A program under a relay and nothing else: nobody acts on its faults. For looking at it, and for the control.
 *
 * Gets a PID; gives the attached client. A stop that comes is delivered, so a fault ends the program as it would unwatched.
 */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { systemClock } from "#clock.ts";
import { HoldfastError } from "#errors.ts";
import { silentLog } from "#log.ts";
import { GdbClient } from "#monitor/gdb/client.ts";
import { startStub } from "#monitor/gdb/stub.ts";
import { TaskGroup } from "#tasks.ts";
import { RelayPlace } from "./relayPlace.ts";

export type BareStub = AsyncDisposable & {
  readonly relay: RelayPlace;
  /** Signals that were delivered, in order. */
  readonly delivered: readonly string[];
};

export async function attachBare(pid: number): Promise<BareStub> {
  const relay = await RelayPlace.open();
  const directory = await mkdtemp(join(tmpdir(), "holdfast-bare-"));
  const stub = await startStub(directory, { clock: systemClock, program: relay.program });
  const client = await GdbClient.open(stub.transport, { clock: systemClock, log: silentLog, rehearsed: false });
  const tasks = new TaskGroup();
  const delivered: string[] = [];
  const end = async (): Promise<void> => {
    await client.detach().catch(() => {}); // It has ended, and its stub with it.
    await client[Symbol.asyncDispose]();
    await tasks[Symbol.asyncDispose]();
    endProcess(stub.pid);
    await relay[Symbol.asyncDispose]();
    await rm(directory, { recursive: true, force: true });
  };
  try {
    await client.attach(pid, { stopAll: false });
    await relay.ready();
    tasks.start(() => deliverAll(client, delivered));
    return { relay, delivered, [Symbol.asyncDispose]: end };
  } catch (error) {
    await end();
    throw error;
  }
}

async function deliverAll(client: GdbClient, delivered: string[]): Promise<void> {
  try {
    for await (const event of client.stops()) {
      if (event.kind !== "signal") continue;
      delivered.push(event.signal);
      await client.control(event.tid).deliver();
    }
  } catch (error) {
    if (!(error instanceof HoldfastError)) throw error; // The stub ended with its program.
  }
}

function endProcess(pid: number): void {
  try {
    process.kill(pid, "SIGTERM");
  } catch {
    // It has ended by itself.
  }
}
