// SPDX-License-Identifier: Apache-2.0
/**
 * Puts one running program under protection: a stub that traces it, a client that talks to the stub, a watch that knows
 * its code and its spines. Takes over the stub of an earlier supervisor where one still traces the program.
 */
import { randomUUID } from "node:crypto";
import { getPriority, setPriority } from "node:os";
import type { Clock } from "#clock.ts";
import { HoldfastError } from "#errors.ts";
import type { Architecture, FaultId } from "#fault.ts";
import type { Log } from "#log.ts";
import { GdbClient } from "#monitor/gdb/client.ts";
import { reopenStub, type Stub, startStub } from "#monitor/gdb/stub.ts";
import type { WireTrace } from "#monitor/gdb/trace.ts";
import { readStatus } from "#monitor/processes.ts";
import { requireTraceable, Watch } from "#monitor/watch.ts";

/** Niceness of the supervisor and its stub: before ordinary programs, behind what an administrator put first. */
const supervisorNice = -10;

export type ProtectionOptions = {
  readonly workload: string;
  readonly pid: number;
  readonly runDirectory: string;
  readonly clock: Clock;
  readonly log: Log;
  readonly nextFaultId: () => FaultId;
  readonly trace?: WireTrace | undefined;
  readonly signal?: AbortSignal | undefined;
};

export class Protection implements AsyncDisposable {
  private constructor(
    readonly stub: Stub,
    readonly client: GdbClient,
    readonly watch: Watch,
    readonly threads: number,
  ) {}

  /** @throws GdbError, ProgramError */
  static async open(options: ProtectionOptions): Promise<Protection> {
    const { stub, client, threads } = (await adoptStub(options)) ?? (await attachStub(options));
    try {
      const { workload, pid, clock, log, nextFaultId } = options;
      for (const ours of [process.pid, stub.pid]) goFirst(ours, log);
      const architecture: Architecture = client.architecture;
      const watch = Watch.open({ workload, pid, architecture, clock, log, nextFaultId });
      return new Protection(stub, client, watch, threads);
    } catch (error) {
      await letGo(client, stub);
      throw error;
    }
  }

  /** Ends protection and leaves the program running. */
  async release(): Promise<void> {
    await letGo(this.client, this.stub);
  }

  /** Ends a stub whose program has ended, or that answers no more. */
  endStub(): void {
    endStub(this.stub.pid);
  }

  /** Closes our side only: the stub goes on holding the program for the next supervisor. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.watch[Symbol.dispose]();
    await this.client[Symbol.asyncDispose]();
  }
}

/** A stopped thread must not wait until the load that stopped it leaves us a processor. */
function goFirst(pid: number, log: Log): void {
  try {
    if (getPriority(pid) > supervisorNice) setPriority(pid, supervisorNice);
  } catch {
    // Only root may: then stops are longer on a machine that is busy, and nothing else changes.
    log("debug", "guard.priority", { pid, kept: true });
  }
}

type Opened = { stub: Stub; client: GdbClient; threads: number };

async function adoptStub(options: ProtectionOptions): Promise<Opened | null> {
  const { pid, runDirectory, clock, log } = options;
  if ((readStatus(pid)?.tracerPid ?? 0) === 0) return null;
  try {
    const stub = await reopenStub(runDirectory, { clock, nonce: randomUUID() });
    if (stub.pid !== readStatus(pid)?.tracerPid) {
      await stub.transport[Symbol.asyncDispose]();
      return null;
    }
    const client = await GdbClient.open(stub.transport, clientOptions(options, stub));
    const threads = (await client.adopt(pid, signalOf(options))).length;
    log("info", "stub.takenOver", { stub: stub.pid, program: pid, threads });
    return { stub, client, threads };
  } catch (error) {
    if (!(error instanceof HoldfastError)) throw error;
    log("warn", "stub.lost", { program: pid, why: error.message });
    return null;
  }
}

async function attachStub(options: ProtectionOptions): Promise<Opened> {
  const { pid, runDirectory, clock, signal } = options;
  requireTraceable(pid);
  const stub = await startStub(runDirectory, { clock, ...(signal === undefined ? {} : { signal }) });
  try {
    const client = await GdbClient.open(stub.transport, clientOptions(options, stub));
    const threads = (await client.attach(pid, { stopAll: false, ...signalOf(options) })).length;
    return { stub, client, threads };
  } catch (error) {
    endStub(stub.pid);
    throw error;
  }
}

const clientOptions = (options: ProtectionOptions, stub: Stub) => ({
  clock: options.clock,
  log: options.log,
  trace: options.trace,
  signal: options.signal,
  sync: stub.sync,
});

const signalOf = ({ signal }: ProtectionOptions): { signal?: AbortSignal } => (signal === undefined ? {} : { signal });

async function letGo(client: GdbClient, stub: Stub): Promise<void> {
  try {
    await client.detach();
  } finally {
    await client[Symbol.asyncDispose]();
    endStub(stub.pid);
  }
}

/** A stub that has detached, or never attached, has nothing left to do. */
function endStub(pid: number): void {
  try {
    process.kill(pid, "SIGTERM");
  } catch {
    // It has ended by itself.
  }
}
