// SPDX-License-Identifier: Apache-2.0
/**
 * Puts one running program under protection: a stub that traces it, and a client that talks to the stub. Takes over the
 * stub of an earlier supervisor where one still traces the program.
 */
import { randomUUID } from "node:crypto";
import type { Clock } from "#clock.ts";
import { explain, GdbError, HoldfastError } from "#errors.ts";
import type { Log } from "#log.ts";
import { GdbClient } from "#monitor/gdb/client.ts";
import { reopenStub, type Stub, startStub, stubErrors } from "#monitor/gdb/stub.ts";
import type { WireTrace } from "#monitor/gdb/trace.ts";
import { runBeforeTheLoad } from "#monitor/priority.ts";
import { readStatus } from "#monitor/processes.ts";
import { requireTraceable } from "#monitor/traceable.ts";
import { clearStub, stubIn } from "./leftovers.ts";

export type ProtectionOptions = {
  readonly pid: number;
  readonly runDirectory: string;
  readonly clock: Clock;
  readonly log: Log;
  readonly trace?: WireTrace | undefined;
  /** Called when all is ready for the attach: whoever holds the process until then lets go of it. */
  readonly claim?: (() => Promise<void>) | undefined;
  readonly signal?: AbortSignal | undefined;
};

export class Protection implements AsyncDisposable {
  private constructor(
    private readonly options: ProtectionOptions,
    readonly client: GdbClient,
  ) {}

  /** @throws GdbError, ProgramError */
  static async open(options: ProtectionOptions): Promise<Protection> {
    const { stub, client } = (await adoptStub(options)) ?? (await attachStub(options));
    for (const ours of [process.pid, stub.pid]) runBeforeTheLoad(ours, options.log);
    return new Protection(options, client);
  }

  /** Ends protection and leaves the program running. */
  async release(): Promise<void> {
    await letGo(this.client, this.options);
  }

  /** Ends a stub whose program has ended, or that answers no more. */
  async endStub(): Promise<void> {
    await this.client[Symbol.asyncDispose]();
    await clearStub(this.options.runDirectory, this.options.clock);
  }

  /** Closes our side only: the stub goes on holding the program for the next supervisor. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.client[Symbol.asyncDispose]();
  }
}

type Opened = { stub: Stub; client: GdbClient };

/** Takes over the stub that traces the program already; any other one in our directory is ended. */
async function adoptStub(options: ProtectionOptions): Promise<Opened | null> {
  const { pid, runDirectory, clock, log } = options;
  const tracer = readStatus(pid)?.tracerPid ?? 0;
  if (tracer !== 0 && stubIn(runDirectory) === tracer) {
    try {
      return await adopt(options);
    } catch (error) {
      if (!(error instanceof HoldfastError)) throw error;
      log("warn", "stub.lost", { program: pid, why: explain(error) });
    }
  }
  await clearStub(runDirectory, clock);
  return null;
}

async function adopt(options: ProtectionOptions): Promise<Opened> {
  const { pid, runDirectory, clock, log } = options;
  const stub = await reopenStub(runDirectory, { clock, nonce: randomUUID() });
  const client = await GdbClient.open(stub.transport, clientOptions(options, stub));
  try {
    const threads = (await client.adopt(pid, signalOf(options))).length;
    log("info", "stub.takenOver", { stub: stub.pid, program: pid, threads });
    return { stub, client };
  } catch (error) {
    await client[Symbol.asyncDispose]();
    throw error;
  }
}

async function attachStub(options: ProtectionOptions): Promise<Opened> {
  const { pid, runDirectory, clock, claim, signal } = options;
  if (claim === undefined) requireTraceable(pid);
  try {
    const stub = await startStub(runDirectory, { clock, ...(signal === undefined ? {} : { signal }) });
    const client = await GdbClient.open(stub.transport, clientOptions(options, stub));
    try {
      await claim?.();
      await client.attach(pid, { stopAll: false, ...signalOf(options) });
      return { stub, client };
    } catch (error) {
      await client[Symbol.asyncDispose]();
      throw error;
    }
  } catch (error) {
    const said = await stubErrors(runDirectory);
    await clearStub(runDirectory, clock);
    throw named(error, pid, said);
  }
}

/** Errors of the wire say which stub it was: it may not be the one that the user thinks of. */
function named(error: unknown, pid: number, said: string): unknown {
  if (!(error instanceof GdbError) || !ofTheWire.includes(error.code)) return error;
  const stub = Bun.which("gdbserver") ?? "gdbserver";
  const words = said === "" ? "" : `, and said "${said}"`;
  return new GdbError(
    error.code,
    `${stub} could not be used to attach to process ${pid}: ${error.message}${words}; see that it is the gdbserver of your distribution (holdfast doctor)`,
    error.context,
  );
}

const ofTheWire: readonly GdbError["code"][] = [
  "gdb.start",
  "gdb.timeout",
  "gdb.closed",
  "gdb.frame",
  "gdb.message",
  "gdb.violation",
];

const clientOptions = (options: ProtectionOptions, stub: Stub) => ({
  clock: options.clock,
  log: options.log,
  trace: options.trace,
  signal: options.signal,
  sync: stub.sync,
});

const signalOf = ({ signal }: ProtectionOptions): { signal?: AbortSignal } => (signal === undefined ? {} : { signal });

async function letGo(client: GdbClient, { runDirectory, clock }: ProtectionOptions): Promise<void> {
  try {
    await client.detach();
  } finally {
    await client[Symbol.asyncDispose]();
    await clearStub(runDirectory, clock);
  }
}
