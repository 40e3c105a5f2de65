// SPDX-License-Identifier: Apache-2.0
/**
 * The GDB remote protocol towards one stub: attach to a program, learn of its stops, read and change stopped threads.
 *
 * Gets a transport; gives threads, stops and control over each stopped thread by itself. Runs the session machine, and is
 * the only part with promises. Limits: every request has a deadline, after which the stub counts as lost, because its
 * answers come in order and the next one could not be told from the late one; `stopQueueMax` stops nobody has read.
 * Source: suppression by abandoned frames needs a stop known whole in one round trip; measured in tests/path.
 */
import type { Clock } from "#clock.ts";
import { GdbError, type HoldfastError } from "#errors.ts";
import type { Architecture, Registers, SignalCause, ThreadControl, VirtualAddress } from "#fault.ts";
import type { Log } from "#log.ts";
import { encodePacket, type Frame, FrameDecoder } from "./frame.ts";
import {
  errorReply,
  type Features,
  formatThread,
  maxXferBytes,
  packetBytes,
  parseHexBytes,
  parseProcesses,
  parseSiginfo,
  parseThreads,
  parseXfer,
  type ThreadId,
} from "./messages.ts";
import { patchRegisters, type RegisterLayout, readDescription, readRegisters } from "./registers.ts";
import { type SessionEffect, type SessionInput, type SessionState, type Stopped, stepSession } from "./session.ts";
import { gdbSignalNumber, linuxSignalNumber } from "./signals.ts";
import type { WireTrace } from "./trace.ts";
import type { Transport } from "./transport.ts";

export type StopEvent =
  | {
      readonly kind: "signal";
      readonly pid: number;
      readonly tid: number;
      /** Linux name, SIGSTOP where `stopThread` asked for the stop. */
      readonly signal: string;
      /** When the stop was read, by the clock's `monotonicNs`. */
      readonly atNs: number;
    }
  /** The program has replaced itself by another (and was resumed): all that was known of its code is void. */
  | { readonly kind: "exec"; readonly pid: number; readonly tid: number; readonly path: string }
  | { readonly kind: "exited"; readonly pid: number; readonly code: number }
  | { readonly kind: "killed"; readonly pid: number; readonly signal: string };

export type Inspection = {
  readonly tid: number;
  readonly signal: string;
  readonly registers: Registers;
  /** The bytes of `g`. */
  readonly raw: Uint8Array;
  readonly cause: SignalCause | null;
};
export type AttachedThread = { readonly tid: number; readonly name: string; readonly registers: Registers | null };

export type GdbClientOptions = {
  readonly clock: Clock;
  readonly log: Log;
  readonly trace?: WireTrace | undefined;
  readonly signal?: AbortSignal | undefined;
  /** For a stub that outlived its client: the request and reply that end the old conversation. */
  readonly sync?: { readonly request: string; readonly reply: string } | undefined;
  readonly requestTimeoutMs?: number | undefined;
};

export const requestTimeoutMs = 10_000;
export const stopQueueMax = 65_536;
/** Rounds in which new threads may appear while all are being stopped. */
const stopRoundsMax = 64;
const resumesPerPacket = 200;
const xferPieceBytes = 0x1000;
const memoryPieceBytes = 0x1000;

type Waiting = {
  readonly resolve: (texts: readonly string[]) => void;
  readonly reject: (error: unknown) => void;
  readonly sentNs: number;
};
type StopRecord = {
  readonly stop: Stopped;
  readonly replies: Promise<readonly string[]>;
  inspection: Promise<Inspection> | null;
};

export class GdbClient implements AsyncDisposable {
  #state: SessionState = { kind: "idle" };
  readonly #decoder = new FrameDecoder();
  readonly #waiting = new Map<number, Waiting>();
  readonly #stops = new Map<number, StopRecord>();
  /** Threads whose stop was asked for and is not news. */
  readonly #asked = new Set<number>();
  #askedAll = false;
  readonly #events: StopEvent[] = [];
  #eventArrived = Promise.withResolvers<void>();
  readonly #ready = Promise.withResolvers<Features>();
  #drained = Promise.withResolvers<void>();
  #stopArrived = Promise.withResolvers<void>();
  #lost: GdbError | null = null;
  #nextId = 1;
  #watching = false;
  #layout: RegisterLayout | null = null;
  #pid: number | null = null;
  readonly #closing = new AbortController();

  private constructor(
    private readonly transport: Transport,
    private readonly options: GdbClientOptions,
  ) {
    this.#ready.promise.catch(() => {});
    this.#drained.promise.catch(() => {});
    this.#stopArrived.promise.catch(() => {});
  }

  /** Agrees on features, non-stop mode and passed signals. @throws GdbError "gdb.timeout", "gdb.closed", "gdb.violation" */
  static async open(transport: Transport, options: GdbClientOptions): Promise<GdbClient> {
    const client = new GdbClient(transport, options);
    void client.#read();
    client.#watch(client.options.clock.monotonicNs());
    client.#input({ kind: "start", sync: options.sync ?? null });
    try {
      requireFeatures(await abortable(client.#ready.promise, options.signal));
      return client;
    } catch (error) {
      await client[Symbol.asyncDispose]();
      throw error;
    }
  }

  get architecture(): Architecture {
    return this.#known().architecture;
  }

  get layout(): RegisterLayout {
    return this.#known();
  }

  /**
   * Attaches to a running program. gdbserver resumes it by itself; with `stopAll` every thread is then stopped once, its
   * registers are given, and `resumeAll` is the caller's duty. @throws GdbError "gdb.attach" with the stub's words.
   */
  async attach(
    pid: number,
    { stopAll = true, signal }: { stopAll?: boolean; signal?: AbortSignal } = {},
  ): Promise<readonly AttachedThread[]> {
    const [reply] = await this.#request([`vAttach;${pid.toString(16)}`], null, signal);
    if (reply !== "OK")
      throw new GdbError("gdb.attach", `gdbserver could not attach to process ${pid}`, { pid, reply: reply ?? "" });
    this.#pid = pid;
    await this.#readLayout(pid, signal);
    if (!stopAll)
      return (await this.threads(signal)).map(({ thread, name }) => ({ tid: thread.tid, name, registers: null }));
    return this.#stopAll(pid, signal);
  }

  /** Takes over a program to which the stub is attached already. Its stopped threads come out of `stops` as if anew. */
  async adopt(pid: number, { signal }: { signal?: AbortSignal } = {}): Promise<readonly AttachedThread[]> {
    this.#pid = pid;
    this.#drained = Promise.withResolvers<void>();
    this.#drained.promise.catch(() => {});
    this.#input({ kind: "rescan" });
    await abortable(this.#drained.promise, signal);
    const threads = await this.threads(signal);
    if (threads.length === 0)
      throw new GdbError("gdb.gone", `gdbserver is not attached to process ${pid} any more`, { pid });
    await this.#readLayout(pid, signal);
    return threads.map(({ thread, name }) => ({ tid: thread.tid, name, registers: null }));
  }

  /** Resumes every thread that was stopped on request. Threads that stopped by themselves stay as they are. */
  async resumeAll(): Promise<void> {
    this.#askedAll = false;
    const requested = [...this.#stops.values()]
      .filter(({ stop }) => stop.gdbSignal === 0)
      .map(({ stop }) => stop.thread);
    const packets: string[] = [];
    for (let from = 0; from < requested.length; from += resumesPerPacket) {
      const names = requested.slice(from, from + resumesPerPacket).map(formatThread);
      packets.push(`vCont${names.map((name) => `;c:${name}`).join("")}`);
    }
    if (packets.length === 0) return;
    const id = this.#take();
    const replies = this.#wait(id);
    for (const { tid } of requested) this.#stops.delete(tid);
    this.#input({ kind: "resumeMany", id, threads: requested, packets });
    expectOk(await replies, "resume all threads");
  }

  /** All stops from now on, in order. To be read by one reader. Ends by throwing GdbError "gdb.closed" or "gdb.timeout". */
  async *stops(): AsyncGenerator<StopEvent, void, void> {
    for (;;) {
      const event = this.#events.shift();
      if (event !== undefined) {
        yield event;
      } else if (this.#lost !== null) {
        if (this.#closing.signal.aborted) return;
        throw this.#lost;
      } else {
        this.#eventArrived = Promise.withResolvers<void>();
        await this.#eventArrived.promise;
      }
    }
  }

  /** Registers and cause of a stopped thread. They were asked for when the stop came, so this seldom waits. */
  inspect(tid: number): Promise<Inspection> {
    const record = this.#stops.get(tid);
    if (record === undefined) return Promise.reject(stale(tid));
    record.inspection ??= record.replies.then(([general, cause]) =>
      this.#inspection(record.stop, general ?? "", cause ?? ""),
    );
    return record.inspection;
  }

  /** The right to change and resume the thread in its present stop. @throws GdbError "gdb.stale" where it is not stopped. */
  control(tid: number): ThreadControl {
    const record = this.#stops.get(tid);
    if (record === undefined) throw stale(tid);
    const changes = new Map<number, bigint>();
    const check = (): void => {
      if (this.#stops.get(tid) !== record) throw stale(tid);
    };
    const go = async (action: string): Promise<void> => {
      check();
      const registers = changes.size === 0 ? null : await this.#patched(tid, changes);
      check();
      await this.#resume(record, action, registers);
    };
    return {
      pid: record.stop.thread.pid,
      tid,
      writeRegisters: async (more) => {
        check();
        for (const [register, value] of more) changes.set(register, value);
      },
      resume: () => go("c"),
      deliver: () => go(deliverAction(record.stop)),
    };
  }

  /** Stops one running thread; resolves once it has stopped. The stop is not told by `stops`. */
  async stopThread(tid: number, signal?: AbortSignal): Promise<Inspection> {
    if (this.#stops.has(tid)) return this.inspect(tid);
    this.#asked.add(tid);
    const thread = { pid: this.#attachedPid(), tid };
    expectOk(await this.#request([`vCont;t:${formatThread(thread)}`], null, signal), `stop thread ${tid}`);
    await this.#until(() => this.#stops.has(tid), signal);
    return this.inspect(tid);
  }

  /** Reads memory, of a running program too; shorter where unmapped memory begins. */
  async readMemory(from: VirtualAddress, lengthBytes: number, tid: number, signal?: AbortSignal): Promise<Uint8Array> {
    const packets: string[] = [];
    for (let done = 0; done < lengthBytes; done += memoryPieceBytes) {
      packets.push(
        `m${(from + BigInt(done)).toString(16)},${Math.min(memoryPieceBytes, lengthBytes - done).toString(16)}`,
      );
    }
    if (packets.length === 0) return new Uint8Array(0);
    const pieces: Uint8Array[] = [];
    for (const [index, reply] of (await this.#request(packets, { pid: this.#attachedPid(), tid }, signal)).entries()) {
      if (errorReply(reply) !== null) break;
      const piece = parseHexBytes(reply);
      pieces.push(piece);
      if (piece.length < Math.min(memoryPieceBytes, lengthBytes - index * memoryPieceBytes)) break;
    }
    return Buffer.concat(pieces);
  }

  /** All threads of the program. */
  async threads(signal?: AbortSignal): Promise<{ thread: ThreadId; name: string }[]> {
    const pid = this.#attachedPid();
    return parseThreads(await this.#xfer("threads:read:", signal)).filter(({ thread }) => thread.pid === pid);
  }

  /** All processes that the stub sees: how a program inside a guest is found by name. */
  async processes(signal?: AbortSignal): Promise<{ pid: number; user: string; command: string }[]> {
    return parseProcesses(await this.#xfer("osdata:read:processes", signal));
  }

  /** Lets go of the program, which runs on unwatched; a thread in a fatal stop gets its signal. */
  async detach(signal?: AbortSignal): Promise<void> {
    const pid = this.#attachedPid();
    const [reply] = await this.#request([`D;${pid.toString(16)}`], null, signal);
    if (reply !== "OK")
      throw new GdbError("gdb.refused", `gdbserver did not detach from process ${pid}`, { reply: reply ?? "" });
    this.#pid = null;
    this.#stops.clear();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#closing.signal.aborted) return;
    const reason = new GdbError("gdb.closed", "this side has closed the connection to the stub");
    this.#closing.abort(reason);
    this.#lose(reason);
    await this.transport[Symbol.asyncDispose]();
  }

  #known(): RegisterLayout {
    if (this.#layout === null) throw new GdbError("gdb.refused", "no program is attached yet");
    return this.#layout;
  }

  #attachedPid(): number {
    if (this.#pid === null) throw new GdbError("gdb.refused", "no program is attached");
    return this.#pid;
  }

  async #readLayout(pid: number, signal: AbortSignal | undefined): Promise<void> {
    // gdbserver 13 aborts on this request when no thread was selected before (measured).
    const thread = { pid, tid: pid };
    const documents = new Map<string, string>();
    for (;;) {
      const description = readDescription(documents);
      if (description.kind === "layout") {
        this.#layout = description.layout;
        return;
      }
      documents.set(description.document, await this.#xfer(`features:read:${description.document}`, signal, thread));
    }
  }

  async #stopAll(pid: number, signal: AbortSignal | undefined): Promise<AttachedThread[]> {
    this.#askedAll = true;
    expectOk(await this.#request([`vCont;t:${formatThread({ pid, tid: -1 })}`], null, signal), "stop all threads");
    for (let round = 0; round < stopRoundsMax; round += 1) {
      const threads = await this.threads(signal);
      if (threads.every(({ thread }) => this.#stops.has(thread.tid))) {
        return await Promise.all(
          threads.map(async ({ thread: { tid }, name }) => ({
            tid,
            name,
            registers: (await this.inspect(tid)).registers,
          })),
        );
      }
      const before = this.#stops.size;
      await this.#until(() => this.#stops.size > before, signal);
    }
    await this.resumeAll();
    throw new GdbError("gdb.attach", `process ${pid} makes threads faster than they can be stopped`, { pid });
  }

  #inspection(stop: Stopped, general: string, cause: string): Inspection {
    if (errorReply(general) !== null)
      throw new GdbError("gdb.refused", "the stub has no registers of the thread", { tid: stop.thread.tid });
    const raw = parseHexBytes(general);
    const registers = readRegisters(this.#known(), raw);
    const read = errorReply(cause) === null && stop.gdbSignal !== 0 ? parseSiginfo(cause) : null;
    const agrees = read !== null && read.number === linuxSignalNumber(stop.signal);
    return { tid: stop.thread.tid, signal: stop.signal, registers, raw, cause: agrees ? read : null };
  }

  async #patched(tid: number, changes: ReadonlyMap<number, bigint>): Promise<string> {
    const { raw } = await this.inspect(tid);
    return `G${patchRegisters(this.#known(), raw, changes).toHex()}`;
  }

  async #resume(record: StopRecord, action: string, registers: string | null): Promise<void> {
    const { thread, serial } = record.stop;
    const id = this.#take();
    const replies = this.#wait(id);
    this.#stops.delete(thread.tid);
    this.#input({ kind: "resume", id, thread, serial, action, registers });
    expectOk(await replies, `resume thread ${thread.tid}`);
  }

  async #xfer(object: string, signal?: AbortSignal, thread: ThreadId | null = null): Promise<string> {
    let binary = "";
    for (;;) {
      const packet = `qXfer:${object}:${binary.length.toString(16)},${xferPieceBytes.toString(16)}`;
      const [reply] = await this.#request([packet], thread, signal);
      const piece = parseXfer(reply ?? "");
      binary += piece.binary;
      if (piece.last) return Buffer.from(binary, "latin1").toString("utf8");
      if (binary.length > maxXferBytes || piece.binary === "") {
        throw new GdbError("gdb.message", `the stub's answer to ${object} has no end`, { lengthBytes: binary.length });
      }
    }
  }

  #take(): number {
    this.#nextId += 1;
    return this.#nextId;
  }

  async #request(
    packets: readonly string[],
    thread: ThreadId | null,
    signal?: AbortSignal,
  ): Promise<readonly string[]> {
    signal?.throwIfAborted();
    const id = this.#take();
    const replies = this.#wait(id);
    this.#input({ kind: "request", id, thread, packets });
    return await abortable(replies, signal);
  }

  #wait(id: number): Promise<readonly string[]> {
    const { promise, resolve, reject } = Promise.withResolvers<readonly string[]>();
    promise.catch(() => {});
    const sentNs = this.options.clock.monotonicNs();
    this.#waiting.set(id, { resolve, reject, sentNs });
    this.#watch(sentNs);
    return promise;
  }

  async #until(condition: () => boolean, signal: AbortSignal | undefined): Promise<void> {
    while (!condition()) {
      if (this.#lost !== null) throw this.#lost;
      this.#stopArrived = Promise.withResolvers<void>();
      await abortable(this.#stopArrived.promise, signal);
    }
  }

  /** One sleeper for all requests: wakes when the oldest is due, and calls the stub lost if it is still waiting. */
  #watch(fromNs: number): void {
    if (this.#watching || this.#lost !== null) return;
    this.#watching = true;
    void this.#watchUntil(fromNs + this.#timeoutMs * 1e6);
  }

  get #timeoutMs(): number {
    return this.options.requestTimeoutMs ?? requestTimeoutMs;
  }

  async #watchUntil(dueNs: number): Promise<void> {
    const { clock } = this.options;
    try {
      await clock.sleep(Math.max(1, (dueNs - clock.monotonicNs()) / 1e6), this.#closing.signal);
    } catch {
      return; // Closed: nothing is left to watch.
    }
    this.#watching = false;
    const greeting = this.#state.kind !== "open" && this.#state.kind !== "closed";
    const oldestNs = Math.min(...[...this.#waiting.values()].map(({ sentNs }) => sentNs));
    if (greeting || oldestNs + this.#timeoutMs * 1e6 <= clock.monotonicNs()) {
      this.#lose(
        new GdbError("gdb.timeout", `the stub at ${this.transport.peer} has not answered in ${this.#timeoutMs} ms`),
      );
    } else if (this.#waiting.size > 0) {
      this.#watch(oldestNs);
    }
  }

  async #read(): Promise<void> {
    try {
      for await (const chunk of this.transport.incoming) {
        this.options.trace?.received(chunk);
        for (const frame of this.#decoder.push(chunk)) this.#frame(frame);
        if (this.#lost !== null) return;
      }
      this.#lose(new GdbError("gdb.closed", `the stub at ${this.transport.peer} has ended`));
    } catch (cause) {
      this.#lose(new GdbError("gdb.closed", `reading from the stub at ${this.transport.peer} failed`, {}, cause));
    }
  }

  #frame(frame: Frame): void {
    if (frame.kind === "noise") {
      this.options.log("debug", "gdb.noise", { bytes: frame.lengthBytes });
    } else if (frame.kind !== "damaged") {
      this.#input(frame);
    } else if (this.#state.kind !== "sync") {
      this.#lose(new GdbError("gdb.frame", `the stub at ${this.transport.peer} sent a broken frame: ${frame.reason}`));
    }
  }

  #input(input: SessionInput): void {
    try {
      const step = stepSession(this.#state, input);
      if (step.kind === "violation") throw new GdbError("gdb.violation", `the stub broke the protocol: ${step.reason}`);
      this.#state = step.state;
      for (const effect of step.effects) this.#effect(effect);
    } catch (error) {
      if (!(error instanceof GdbError)) throw error;
      this.#lose(error);
    }
  }

  #effect(effect: SessionEffect): void {
    switch (effect.kind) {
      case "send":
        this.#write(effect.packets.map(encodePacket).join(""));
        break;
      case "acknowledge":
        this.#write("+");
        break;
      case "ready":
        this.#ready.resolve(effect.features);
        break;
      case "answer":
        this.#settle(effect.id, (waiting) => waiting.resolve(effect.texts));
        break;
      case "refused":
        this.#settle(effect.id, (waiting) => waiting.reject(this.#refusal(effect.reason)));
        break;
      case "stopped":
        this.#stopped(effect.stop);
        break;
      case "ended":
        this.#ended(effect.reply);
        break;
      case "drained":
        this.#drained.resolve();
        break;
    }
  }

  #write(text: string): void {
    this.options.trace?.sent(text);
    this.transport.write(text);
  }

  #settle(id: number, settle: (waiting: Waiting) => void): void {
    const waiting = this.#waiting.get(id);
    this.#waiting.delete(id);
    if (waiting !== undefined) settle(waiting);
  }

  #refusal(reason: "stale" | "closed" | "select"): HoldfastError {
    if (reason === "closed") return this.#lost ?? new GdbError("gdb.closed", "the connection to the stub is closed");
    if (reason === "stale") return new GdbError("gdb.stale", "the thread has been resumed since");
    return new GdbError("gdb.gone", "the thread does not exist any more");
  }

  #stopped(stop: Stopped): void {
    const { pid, tid } = stop.thread;
    const record: StopRecord = { stop, replies: this.#wait(-stop.serial), inspection: null };
    this.#stops.set(tid, record);
    this.#stopArrived.resolve();
    if (stop.execPath !== null) {
      this.#tell({ kind: "exec", pid, tid, path: stop.execPath });
      this.#resume(record, "c", null).catch((error: unknown) => this.#loseFor(error));
    } else if (stop.gdbSignal === 0) {
      const asked = this.#asked.delete(tid) || this.#askedAll;
      if (asked) return;
      // A stop nobody asked for (any more), left by the client before us: nothing may stay stopped.
      this.options.log("info", "gdb.unasked", { tid });
      this.#resume(record, "c", null).catch((error: unknown) => this.#loseFor(error));
    } else {
      this.#tell({ kind: "signal", pid, tid, signal: stop.signal, atNs: this.options.clock.monotonicNs() });
    }
  }

  #ended(reply: Extract<SessionEffect, { kind: "ended" }>["reply"]): void {
    if (reply.kind === "exited" || reply.kind === "killed") {
      for (const [tid, { stop }] of this.#stops) if (stop.thread.pid === reply.pid) this.#stops.delete(tid);
      this.#tell(reply);
    } else if (reply.kind === "threadExited") {
      this.#stops.delete(reply.thread.tid);
    }
    this.#stopArrived.resolve();
  }

  #tell(event: StopEvent): void {
    if (this.#events.length >= stopQueueMax) throw new GdbError("gdb.violation", `${stopQueueMax} stops are unread`);
    this.#events.push(event);
    this.#eventArrived.resolve();
  }

  #loseFor(error: unknown): void {
    if (error instanceof GdbError && error.code === "gdb.gone") return; // The thread ended meanwhile.
    this.#lose(
      error instanceof GdbError ? error : new GdbError("gdb.closed", "a thread could not be resumed", {}, error),
    );
  }

  #lose(error: GdbError): void {
    if (this.#lost !== null) return;
    this.#lost = error;
    this.#input({ kind: "lost" });
    for (const id of [...this.#waiting.keys()]) this.#settle(id, (waiting) => waiting.reject(error));
    this.#ready.reject(error);
    this.#drained.reject(error);
    this.#stopArrived.reject(error);
    this.#eventArrived.resolve();
  }
}

/** Without these nothing works; gdbserver has had them since long before 13. */
const requiredFeatures = ["multiprocess", "QNonStop", "QPassSignals", "qXfer:features:read", "qXfer:threads:read"];

function requireFeatures(features: Features): void {
  const missing = requiredFeatures.filter((name) => features.get(name) !== true);
  if (missing.length > 0)
    throw new GdbError("gdb.version", `the stub lacks ${missing.join(", ")}; gdbserver 13 or later is needed`);
  packetBytes(features);
}

const stale = (tid: number): GdbError =>
  new GdbError("gdb.stale", `thread ${tid} is not in the stop that was meant`, { tid });

/** `C` and the number the stub gave: it hands on the pending signal itself, so a number Linux has no name for is right too. */
function deliverAction(stop: Stopped): string {
  const number = stop.gdbSignal === 0 ? null : (gdbSignalNumber(stop.signal) ?? stop.gdbSignal);
  return number === null ? "c" : `C${number.toString(16).padStart(2, "0")}`;
}

function expectOk(replies: readonly string[], what: string): void {
  for (const reply of replies) {
    if (reply !== "OK")
      throw new GdbError("gdb.refused", `gdbserver refused to ${what}`, { reply: reply.slice(0, 40) });
  }
}

/** Rejects with the signal's reason when it aborts first. The reply that still comes is dropped by its id. */
function abortable<T>(promise: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (signal === undefined) return promise;
  return new Promise((resolve, reject) => {
    const cancel = (): void => reject(signal.reason);
    if (signal.aborted) return cancel();
    signal.addEventListener("abort", cancel, { once: true });
    promise.then(resolve, reject).finally(() => signal.removeEventListener("abort", cancel));
  });
}
