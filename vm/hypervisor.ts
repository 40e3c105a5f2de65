// SPDX-License-Identifier: Apache-2.0
/**
 * One running Cloud Hypervisor with at most one VM: every call is checked against its lifecycle before it is sent.
 *
 * Gets a process; gives calls, events and the end. Letting go of it (`await using`) stops our watching, never the
 * process. Events are for one reader; each is taken into the lifecycle before it is given. Limits: `eventQueueMax`
 * events unread, then the oldest go; `upkeepMs` between looks at the size of its log.
 */
import { existsSync, statSync } from "node:fs";
import type { Clock } from "#clock.ts";
import { explain, HypervisorError } from "#errors.ts";
import { type Log, silentLog } from "#log.ts";
import { TaskGroup } from "#tasks.ts";
import { capFile } from "./cappedFile.ts";
import type { ExitReport } from "./exitReport.ts";
import {
  adoptProcess,
  type HypervisorProcess,
  type LaunchOptions,
  launchProcess,
  logBytesMax,
} from "./hypervisorProcess.ts";
import { startState, stepVm, type VmInput, type VmState } from "./lifecycle.ts";
import type { MonitorEvent } from "./monitorEvent.ts";
import { followEvents } from "./monitorFile.ts";
import type { CallAnswer, CallBody, CallName } from "./restCalls.ts";
import type { CallOptions, Rest } from "./restClient.ts";
import type { RunDirectory } from "./runDirectory.ts";
import { demand, type Version, versionOf } from "./version.ts";
import type { Restore, VmConfig } from "./vmConfig.ts";

export const eventQueueMax = 4_096;
const looksMax = 3;
const upkeepMs = 10_000;
/** An orderly end is given this long before the process is killed. */
export const endTimeoutMs = 10_000;

export class Hypervisor implements Rest, AsyncDisposable {
  #state: VmState = startState;
  readonly #tasks = new TaskGroup();
  readonly #queue: MonitorEvent[] = [];
  #arrived = Promise.withResolvers<void>();
  #ended = false;
  /** Calls sent and answered, counted to tell which answer is news. */
  #calls = 0;
  #underWay = 0;

  private constructor(
    readonly directory: RunDirectory,
    private readonly process: HypervisorProcess,
    readonly version: Version,
    private readonly clock: Clock,
    private readonly log: Log,
    private readonly watching: AbortController,
    eventsFrom: number,
  ) {
    this.#take({ kind: "started" });
    const gone = new AbortController();
    void process.gone.then(() => {
      this.#take({ kind: "exited" });
      gone.abort();
    });
    this.#tasks.start((signal) => this.#follow(eventsFrom, AbortSignal.any([signal, gone.signal])));
    this.#tasks.start((signal) => this.#keepUp(signal));
  }

  /** Starts a process without a VM. @throws HypervisorError as launchProcess and versionOf */
  static async launch(options: LaunchOptions & { readonly log?: Log }): Promise<Hypervisor> {
    const watching = new AbortController();
    const process = await launchProcess(options);
    try {
      const log = options.log ?? silentLog;
      return new Hypervisor(options.directory, process, versionOf(process.ping), options.clock, log, watching, 0);
    } catch (error) {
      process.expectEnd();
      process.kill();
      throw error;
    }
  }

  /** Takes over what an earlier supervisor started in this directory; null where nothing runs there. */
  static async adopt(directory: RunDirectory, clock: Clock, log: Log = silentLog): Promise<Hypervisor | null> {
    const watching = new AbortController();
    const process = await adoptProcess(directory, clock, watching.signal);
    if (process === null) return null;
    const written = existsSync(directory.events) ? statSync(directory.events).size : 0;
    const hypervisor = new Hypervisor(directory, process, versionOf(process.ping), clock, log, watching, written);
    await hypervisor.look();
    return hypervisor;
  }

  get pid(): number {
    return this.process.pid;
  }

  get state(): VmState {
    return this.#state;
  }

  /** A call of ours is under way; it answers them one after the other, so others wait. */
  get busy(): boolean {
    return this.#underWay > 0;
  }

  get gone(): Promise<ExitReport> {
    return this.process.gone;
  }

  /** @throws HypervisorError hypervisor.state where the call makes no sense now, hypervisor.unsupported, or as RestClient */
  async call<Name extends CallName>(
    name: Name,
    ...rest: CallBody<Name> extends undefined
      ? [body?: undefined, options?: CallOptions]
      : [body: CallBody<Name>, options?: CallOptions]
  ): Promise<CallAnswer<Name>> {
    this.#requireFeatures(name, rest[0]);
    const step = stepVm(this.#state, { kind: "send", call: name });
    if (step.kind === "violation") throw new HypervisorError("hypervisor.state", step.reason, { call: name });
    this.#state = step.state;
    this.#calls += 1;
    this.#underWay += name === "vmm.ping" ? 0 : 1;
    try {
      const answer = await this.process.rest.call(name, ...rest);
      this.#calls += 1;
      const resumed = name === "vm.restore" && (rest[0] as Restore | undefined)?.resume === true;
      this.#take({ kind: "answered", call: name, resumed });
      if (name === "vmm.shutdown") this.process.expectEnd();
      return answer;
    } catch (error) {
      this.#take({ kind: "failed", call: name });
      throw error;
    } finally {
      this.#underWay -= name === "vmm.ping" ? 0 : 1;
    }
  }

  /** Asks `vm.info` and takes the state from it. @throws HypervisorError as RestClient */
  async look(options: CallOptions = {}): Promise<VmState> {
    for (let attempt = 0; attempt < looksMax; attempt += 1) {
      const calls = this.#calls;
      const migrating = await this.process.rest.call("vm.counters", undefined, options).then(() => false, isMigrating);
      const reported = await this.process.rest.call("vm.info", undefined, options).catch(notCreated);
      // An answer that a call of ours has overtaken tells of the past.
      if (calls !== this.#calls) continue;
      this.#take({ kind: "info", state: reported?.state ?? null, migrating });
      break;
    }
    return this.#state;
  }

  /** The terminal that the guest's serial port is on now; null where there is none. Never rejects. */
  async terminal(): Promise<{ path: string; pid: number } | null> {
    if (this.#state.kind !== "running" && this.#state.kind !== "paused") return null;
    const report = await this.process.rest.call("vm.info").catch(() => null);
    const serial = report?.config.serial;
    return serial?.mode === "Pty" && typeof serial.file === "string" ? { path: serial.file, pid: this.pid } : null;
  }

  /** Events from now on; ends with the process or the abort. For one reader. */
  async *events(signal?: AbortSignal): AsyncGenerator<MonitorEvent> {
    const wake = (): void => this.#arrived.resolve();
    signal?.addEventListener("abort", wake);
    try {
      while (signal?.aborted !== true) {
        const event = this.#queue.shift();
        if (event !== undefined) yield event;
        else if (this.#ended) return;
        else {
          this.#arrived = Promise.withResolvers<void>();
          await this.#arrived.promise;
        }
      }
    } finally {
      signal?.removeEventListener("abort", wake);
    }
  }

  /** Ends the VM and the process in order; kills it where that takes longer than `endTimeoutMs`. */
  async end(): Promise<ExitReport> {
    this.process.expectEnd();
    const asked = this.process.rest.call("vmm.shutdown", undefined, { timeoutMs: endTimeoutMs });
    // A hung API is no reason to keep it: the kill follows either way.
    await Promise.race([asked.catch(() => {}).then(() => this.#grace()), this.process.gone]);
    this.process.kill();
    return await this.process.gone;
  }

  /** Ends the process at once; the guest has no say. */
  async kill(): Promise<ExitReport> {
    this.process.expectEnd();
    this.process.kill();
    return await this.process.gone;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.watching.abort();
    this.#ended = true;
    this.#arrived.resolve();
    await this.#tasks[Symbol.asyncDispose]();
  }

  async #grace(): Promise<void> {
    await Promise.race([this.clock.sleep(endTimeoutMs), this.process.gone]);
  }

  #requireFeatures(name: CallName, body: unknown): void {
    const fields = (body ?? {}) as Record<string, unknown>;
    if (fields.memory_mode !== undefined) demand(this.version, "memoryMode");
    if (fields.memory_restore_mode !== undefined) demand(this.version, "onDemandRestore");
    if (name === "vm.create" && (body as VmConfig).memory.reserve === true) demand(this.version, "reserve");
  }

  #take(input: VmInput): void {
    const before = this.#state;
    const step = stepVm(before, input);
    if (step.kind === "violation") {
      this.log("warn", "vm.violation", { reason: step.reason });
      return;
    }
    this.#state = step.state;
    if (before.kind !== step.state.kind) {
      this.log("info", "vm.state", { from: before.kind, to: step.state.kind, by: input.kind });
    }
    // A look that fails leaves the state unsure; the next event, call or look settles it.
    for (const _ of step.effects) this.#tasks.start(async () => void (await this.look().catch(() => {})));
  }

  async #follow(from: number, signal: AbortSignal): Promise<void> {
    try {
      for await (const event of followEvents(this.directory.events, { clock: this.clock, signal, from })) {
        this.#take({ kind: "event", event });
        if (this.#queue.length >= eventQueueMax) this.#queue.shift();
        this.#queue.push(event);
        this.#arrived.resolve();
      }
    } catch (error) {
      // Events only ever hint; the guest is watched by probes and by its process as well.
      this.log("warn", "vm.eventsLost", { why: explain(error) });
    }
    this.#ended = true;
    this.#arrived.resolve();
  }

  async #keepUp(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      capFile(this.directory.log, logBytesMax);
      await this.clock.sleep(upkeepMs, signal);
    }
  }
}

/** That there is no VM is an answer, not a failure. */
function notCreated(error: unknown): null {
  if (error instanceof HypervisorError && error.chain.includes("VM is not created")) return null;
  throw error;
}

/** While it migrates, `vm.info` shows the state from before; the counters are refused with this reason. */
const isMigrating = (error: unknown): boolean =>
  error instanceof HypervisorError && error.chain.some((message) => message.startsWith("VM is currently migrating"));
