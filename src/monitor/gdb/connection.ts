// SPDX-License-Identifier: Apache-2.0
/**
 * Runs the session machine over a transport: frames in, packets out, a promise for each request.
 *
 * Gets requests and gives their replies; stops and the end are told to `events`. Limits: every request has a deadline.
 * After a missed one the stub counts as lost, because its replies come in order and a late one would be taken for the
 * next. Once lost, everything that waits and all that comes later fails with the same error.
 */
import { type Clock, deadline } from "#clock.ts";
import { GdbError } from "#errors.ts";
import type { Log } from "#log.ts";
import { abortable } from "#tasks.ts";
import { encodePacket, type Frame, FrameDecoder } from "./frame.ts";
import { type Features, maxXferBytes, packetBytes, parseXfer, type ThreadId } from "./messages.ts";
import {
  type Ended,
  type Resume,
  type SessionEffect,
  type SessionInput,
  type SessionState,
  type Stopped,
  stepSession,
} from "./session.ts";
import type { WireTrace } from "./trace.ts";
import type { Transport } from "./transport.ts";

export type GdbClientOptions = {
  readonly clock: Clock;
  readonly log: Log;
  readonly trace?: WireTrace | undefined;
  readonly signal?: AbortSignal | undefined;
  /** For a stub that outlived its client: the request and reply that end the old conversation. */
  readonly sync?: { readonly request: string; readonly reply: string } | undefined;
  readonly requestTimeoutMs?: number | undefined;
  /** Whether the path of a stop is compiled before the first one (rehearsal.ts). */
  readonly rehearsed?: boolean | undefined;
};

export interface ConnectionEvents {
  /** `replies` are those to `g` and to the request for the cause. */
  stopped(stop: Stopped, replies: Promise<readonly string[]>): void;
  ended(reply: Ended): void;
  /** Both wait to be resumed; null: the thread alone does. */
  forked(thread: ThreadId, child: ThreadId | null): void;
  /** Called once; nothing is told after it. */
  lost(error: GdbError): void;
}

type Wait = { readonly thread?: ThreadId | null; readonly signal?: AbortSignal | undefined };
type Waiting = {
  readonly resolve: (texts: readonly string[]) => void;
  readonly reject: (error: unknown) => void;
  readonly dueNs: number;
};

export const requestTimeoutMs = 10_000;
const xferPieceBytes = 0x4000;
/** Without these nothing works; gdbserver has had them since long before 13. */
const requiredFeatures = ["multiprocess", "QNonStop", "QPassSignals", "qXfer:features:read", "qXfer:threads:read"];

export class GdbConnection implements AsyncDisposable {
  #state: SessionState = { kind: "idle" };
  readonly #decoder = new FrameDecoder();
  readonly #waiting = new Map<number, Waiting>();
  readonly #ready = Promise.withResolvers<Features>();
  #drained = Promise.withResolvers<void>();
  #lost: GdbError | null = null;
  #lastId = 0;
  #watchedDueNs = Number.POSITIVE_INFINITY;
  #features: Features = new Map();
  readonly #closing = new AbortController();

  private constructor(
    private readonly transport: Transport,
    private readonly options: GdbClientOptions,
    private readonly events: ConnectionEvents,
  ) {
    this.#ready.promise.catch(() => {});
    this.#drained.promise.catch(() => {});
  }

  /** Agrees on features, non-stop mode and passed signals. Closes `transport` where that fails. */
  static async open(transport: Transport, options: GdbClientOptions, events: ConnectionEvents): Promise<GdbConnection> {
    const connection = new GdbConnection(transport, options, events);
    void connection.#read();
    connection.#input({ kind: "start", sync: options.sync ?? null });
    try {
      using limit = deadline(connection.timeoutMs, () => connection.#late("its greeting"), options.signal);
      connection.#features = await abortable(connection.#ready.promise, limit.signal);
      requireFeatures(connection.#features);
      return connection;
    } catch (error) {
      await connection[Symbol.asyncDispose]();
      throw error;
    }
  }

  get timeoutMs(): number {
    return this.options.requestTimeoutMs ?? requestTimeoutMs;
  }

  /** The error that ended the connection, null while it lives. */
  get lost(): GdbError | null {
    return this.#lost;
  }

  /** Largest packet the stub takes. */
  get packetBytes(): number {
    return packetBytes(this.#features);
  }

  /** Sends packets in one write; gives their replies. With `thread`, all act on that thread, or it fails "gdb.gone". */
  request(packets: readonly string[], { thread = null, signal }: Wait = {}): Promise<readonly string[]> {
    if (signal?.aborted) return Promise.reject(signal.reason);
    return abortable(
      this.#ask((id) => this.#input({ kind: "request", id, thread, packets })),
      signal,
    );
  }

  /** Resumes a stopped thread, its registers written before in the same write. */
  resume(request: Omit<Resume, "id">): Promise<readonly string[]> {
    return this.#ask((id) => this.#input({ kind: "resume", id, ...request }));
  }

  /** Resumes stopped threads without a signal: `packets` are their vCont packets. */
  resumeMany(threads: readonly ThreadId[], packets: readonly string[]): Promise<readonly string[]> {
    return this.#ask((id) => this.#input({ kind: "resumeMany", id, threads, packets }));
  }

  /** Has every thread that is stopped now told again; resolves when all are. */
  async rescan(signal?: AbortSignal): Promise<void> {
    this.#drained = Promise.withResolvers<void>();
    this.#drained.promise.catch(() => {});
    using limit = deadline(this.timeoutMs, () => this.#late("its stopped threads"), signal);
    this.#input({ kind: "rescan" });
    if (this.#lost !== null) throw this.#lost;
    await abortable(this.#drained.promise, limit.signal);
  }

  /** Reads an object of qXfer, for example "threads:read:". @throws GdbError "gdb.refused" where the stub has none. */
  async xfer(object: string, wait: Wait = {}): Promise<string> {
    let binary = "";
    const lengthBytes = Math.min(xferPieceBytes, this.packetBytes - 4);
    for (;;) {
      const packet = `qXfer:${object}:${binary.length.toString(16)},${lengthBytes.toString(16)}`;
      const [reply = ""] = await this.request([packet], wait);
      if (reply === "" || reply[0] === "E") throw new GdbError("gdb.refused", `the stub has no ${object}`, { reply });
      const piece = parseXfer(reply);
      binary += piece.binary;
      if (piece.last) return Buffer.from(binary, "latin1").toString("utf8");
      if (binary.length > maxXferBytes || piece.binary === "") {
        throw new GdbError("gdb.message", `the stub's ${object} has no end`, { lengthBytes: binary.length });
      }
    }
  }

  /** Ends the connection from this side, for `error`. */
  lose(error: GdbError): void {
    if (this.#lost !== null) return;
    this.#lost = error;
    this.#closing.abort(error);
    this.#input({ kind: "lost" });
    for (const id of [...this.#waiting.keys()]) this.#settle(id, (waiting) => waiting.reject(error));
    this.#ready.reject(error);
    this.#drained.reject(error);
    this.events.lost(error);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.lose(new GdbError("gdb.closed", `the connection to ${this.transport.peer} was closed from this side`));
    await this.transport[Symbol.asyncDispose]();
  }

  #ask(submit: (id: number) => void): Promise<readonly string[]> {
    this.#lastId += 1;
    const replies = this.#wait(this.#lastId);
    submit(this.#lastId);
    return replies;
  }

  #wait(id: number): Promise<readonly string[]> {
    if (this.#lost !== null) return Promise.reject(this.#lost);
    const { promise, resolve, reject } = Promise.withResolvers<readonly string[]>();
    promise.catch(() => {});
    const dueNs = this.options.clock.monotonicNs() + this.timeoutMs * 1e6;
    this.#waiting.set(id, { resolve, reject, dueNs });
    if (this.#watchedDueNs === Number.POSITIVE_INFINITY) void this.#watch(dueNs);
    return promise;
  }

  /** One sleeper for all requests: none is due before the oldest, and the oldest is the first of the map. */
  async #watch(dueNs: number): Promise<void> {
    const { clock } = this.options;
    for (let nextNs: number | undefined = dueNs; nextNs !== undefined; ) {
      this.#watchedDueNs = nextNs;
      try {
        await clock.sleep(Math.max(1, (nextNs - clock.monotonicNs()) / 1e6), this.#closing.signal);
      } catch {
        return; // Lost or closed: nothing waits any more.
      }
      nextNs = this.#waiting.values().next().value?.dueNs;
      if (nextNs !== undefined && nextNs <= clock.monotonicNs()) return this.lose(this.#late("a request"));
    }
    this.#watchedDueNs = Number.POSITIVE_INFINITY;
  }

  #late(what: string): GdbError {
    return new GdbError("gdb.timeout", `the stub at ${this.transport.peer} owes ${what} for ${this.timeoutMs} ms`);
  }

  async #read(): Promise<void> {
    const { peer } = this.transport;
    try {
      for await (const chunk of this.transport.incoming) {
        this.options.trace?.received(chunk);
        for (const frame of this.#decoder.push(chunk)) this.#frame(frame);
        if (this.#lost !== null) return;
      }
      this.lose(new GdbError("gdb.closed", `the stub at ${peer} has ended`));
    } catch (cause) {
      this.lose(new GdbError("gdb.closed", `reading from the stub at ${peer} failed`, {}, cause));
    }
  }

  #frame(frame: Frame): void {
    if (frame.kind === "noise") {
      this.options.log("debug", "gdb.noise", { bytes: frame.lengthBytes });
    } else if (frame.kind !== "damaged") {
      this.#input(frame);
    } else if (this.#state.kind !== "sync") {
      this.lose(new GdbError("gdb.frame", `the stub at ${this.transport.peer} sent a broken frame: ${frame.reason}`));
    }
  }

  #input(input: SessionInput): void {
    try {
      const step = stepSession(this.#state, input);
      if (step.kind === "violation") throw new GdbError("gdb.violation", `the stub broke the protocol: ${step.reason}`);
      this.#logTransition(step.state);
      this.#state = step.state;
      for (const effect of step.effects) this.#effect(effect);
    } catch (error) {
      if (!(error instanceof GdbError)) throw error;
      this.lose(error);
    }
  }

  #logTransition(state: SessionState): void {
    if (state.kind !== this.#state.kind)
      this.options.log("debug", "gdb.session", { from: this.#state.kind, to: state.kind });
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
        this.events.stopped(effect.stop, this.#wait(-effect.stop.serial));
        break;
      case "ended":
        this.events.ended(effect.reply);
        break;
      case "forked":
        this.events.forked(effect.thread, effect.child);
        break;
      case "drained":
        this.#drained.resolve();
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

  #refusal(reason: "stale" | "closed" | "select"): GdbError {
    if (reason === "closed") return this.#lost ?? new GdbError("gdb.closed", "the connection to the stub is closed");
    if (reason === "stale") return new GdbError("gdb.stale", "the thread has been resumed since, or has ended");
    return new GdbError("gdb.gone", "the stub knows no such thread any more");
  }
}

function requireFeatures(features: Features): void {
  const missing = requiredFeatures.filter((name) => features.get(name) !== true);
  if (missing.length === 0) return void packetBytes(features);
  throw new GdbError("gdb.version", `the stub lacks ${missing.join(", ")}; gdbserver 13 or later is needed`);
}
