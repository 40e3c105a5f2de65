// SPDX-License-Identifier: Apache-2.0
/**
 * What the tests with stock gdbserver share: stubs and run directories that are cleaned up, stops, and the mending of one.
 */
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { systemClock } from "#clock.ts";
import { GdbError } from "#errors.ts";
import { silentLog } from "#log.ts";
import { GdbClient } from "#monitor/gdb/client.ts";
import type { StopEvent } from "#monitor/gdb/stopEvent.ts";
import { type Stub, startStub } from "#monitor/gdb/stub.ts";
import type { Faulter } from "#tests/peers/faulter.ts";
import { need, tracing } from "#tests/skip.ts";

export const path = need("gdbserver", "gcc", tracing);
export const options = { clock: systemClock, log: silentLog };
/** Bytes of the load that faults. */
export const loadBytes = process.arch === "x64" ? 3n : 4n;

const scratch: string[] = [];
export function runDirectory(): string {
  const directory = mkdtempSync(join(tmpdir(), "holdfast-gdb-"));
  scratch.push(directory);
  return directory;
}
/** Stubs that a test has left running, by our own ids. */
export const stubs: number[] = [];
export function cleanUp(): void {
  for (const pid of stubs.splice(0)) if (runs(pid)) process.kill(pid, "SIGKILL");
  for (const directory of scratch.splice(0)) rmSync(directory, { recursive: true, force: true });
}

export async function start(directory = runDirectory(), program = "gdbserver"): Promise<Stub> {
  const stub = await startStub(directory, { clock: systemClock, program });
  stubs.push(stub.pid);
  return stub;
}

export function runs(pid: number): boolean {
  try {
    return !readFileSync(`/proc/${pid}/stat`, "latin1").includes(") Z ");
  } catch {
    return false;
  }
}

export async function until(condition: () => boolean): Promise<void> {
  for (let tries = 0; !condition(); tries += 1) {
    if (tries > 5000) throw new TypeError(`never: ${condition}`);
    await systemClock.sleep(1);
  }
}

export const guarded = async (faulter: Faulter): Promise<GdbClient> => {
  const client = await GdbClient.open((await start()).transport, options);
  await client.attach(faulter.pid, { stopAll: false });
  return client;
};

export async function nextStop(client: GdbClient): Promise<StopEvent> {
  for await (const event of client.stops()) return event;
  throw new TypeError("the stops have ended");
}

export async function nextSignal(client: GdbClient): Promise<Extract<StopEvent, { kind: "signal" }>> {
  const event = await nextStop(client);
  if (event.kind !== "signal") throw new TypeError(`${event.kind} instead of a signal`);
  return event;
}

/** Skips the faulting load of the stopped thread. */
export async function skipLoad(client: GdbClient, tid: number): Promise<void> {
  const { registers } = await client.inspect(tid);
  const control = client.control(tid);
  const { pc } = client.layout;
  await control.writeRegisters(new Map([[pc, registers[pc]! + loadBytes]]));
  await control.resume();
}

export async function errorOf(promise: Promise<unknown>): Promise<GdbError> {
  const error = await promise.then(
    () => new TypeError("no error"),
    (thrown: unknown) => thrown,
  );
  if (!(error instanceof GdbError)) throw error;
  return error;
}
