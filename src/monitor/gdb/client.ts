// SPDX-License-Identifier: Apache-2.0
/**
 * A program under a gdbserver: attach to it, learn of its stops, read and change each stopped thread by itself.
 *
 * Gets a transport; gives threads, an iterable of stops, and ThreadControl for each stop. A thread whose stop nobody
 * asked for and that no signal explains is resumed at once: nothing is left stopped.
 * Limits: `stopQueueMax` (stopQueue.ts), `stopRoundsMax`. Source: GDB manual, appendix E; gdbserver 13.
 */
import { callingConvention } from "#binary/callingConvention.ts";
import { GdbError } from "#errors.ts";
import type { Architecture, Registers, VirtualAddress } from "#fault.ts";
import { attachRefusal, checkTraceable } from "./attach.ts";
import { type GdbClientOptions, GdbConnection } from "./connection.ts";
import { endStub, followForks, letGoOf, letGoOfOthers } from "./heldProcesses.ts";
import { deliverAction, type Inspection, readInspection, unchanged, writeRequest } from "./inspection.ts";
import { continueRequests, formatThread, parseProcesses, type ThreadId } from "./messages.ts";
import { OwedSignals } from "./owedSignals.ts";
import { readLayout, readStubFile, readStubLinks, readStubMemory, readThreads, writeStubMemory } from "./reads.ts";
import { expectOk, stale } from "./refusals.ts";
import type { RegisterLayout } from "./registers.ts";
import { rehearse } from "./rehearsal.ts";
import type { Ended, Stopped } from "./session.ts";
import { passedSignals } from "./signals.ts";
import { type StopControl, stopControl } from "./stopControl.ts";
import type { StopEvent } from "./stopEvent.ts";
import { StopQueue } from "./stopQueue.ts";
import type { Transport } from "./transport.ts";

/** `registers` is null where the thread was not stopped. */
export type AttachedThread = { readonly tid: number; readonly name: string; readonly registers: Registers | null };

type StopRecord = {
  readonly stop: Stopped;
  /** The stop that the thread was made to step from, where it was: its signal is the one to deliver. */
  readonly from: Stopped;
  readonly replies: Promise<readonly string[]>;
  inspection: Promise<Inspection> | null;
};

/** Rounds in which new threads may appear while all are being stopped. */
const stopRoundsMax = 64;

export class GdbClient implements AsyncDisposable {
  readonly #stopped = new Map<number, StopRecord>();
  /** Threads whose stop was asked for and is not news. */
  readonly #asked = new Set<number>();
  /** Threads that run one instruction, and from which stop: the one after it is no news. */
  readonly #stepping = new Map<number, Stopped>();
  readonly #owed = new OwedSignals();
  #askedAll = false;
  /** A signal may then stand in place of a step that an earlier client has begun: whoever reads the stops is told. */
  #isAdopting = false;
  readonly #events = new StopQueue<StopEvent>();
  #connection: GdbConnection | null = null;
  #layout: RegisterLayout | null = null;
  #pid: number | null = null;

  private constructor(private readonly options: GdbClientOptions) {}

  /** Agrees with the stub on how to talk. @throws GdbError "gdb.timeout", "gdb.closed", "gdb.version", "gdb.violation" */
  static async open(transport: Transport, options: GdbClientOptions): Promise<GdbClient> {
    const client = new GdbClient(options);
    client.#connection = await GdbConnection.open(transport, options, {
      stopped: (stop, replies) => client.#takeStop(stop, replies),
      ended: (reply) => client.#takeEnd(reply),
      forked: (thread, child) => client.#takeFork(thread, child),
      lost: (error) => client.#events.lose(error),
    });
    return client;
  }

  get architecture(): Architecture {
    return this.layout.architecture;
  }

  get layout(): RegisterLayout {
    if (this.#layout === null) throw new GdbError("gdb.refused", "no program is attached yet");
    return this.#layout;
  }

  /**
   * Attaches to a running program, which gdbserver resumes by itself at once. With `stopAll` every thread is then stopped and
   * given, and `resumeAll` is the caller's duty; without, none is: to list them stops them once more, which ends some waits
   * with EINTR (signal(7)). A failure closes the connection. @throws GdbError "gdb.gone", "gdb.busy", "gdb.permission", "gdb.attach"
   */
  async attach(
    pid: number,
    { stopAll = true, signal }: { stopAll?: boolean; signal?: AbortSignal } = {},
  ): Promise<readonly AttachedThread[]> {
    signal?.throwIfAborted();
    const connection = this.#open();
    const facts = await checkTraceable(pid, (path) => this.readFile(path, signal));
    const [reply = ""] = await connection.request([`vAttach;${pid.toString(16)}`]);
    if (reply !== "OK") {
      const refusal = attachRefusal(pid, facts, reply);
      connection.lose(refusal);
      throw refusal;
    }
    this.#pid = pid;
    try {
      signal?.throwIfAborted();
      await this.#learnLayout(pid, signal);
      return stopAll ? await this.#stopAll(pid, signal) : [];
    } catch (error) {
      await this.detach().catch(() => {}); // The first error is the news; a lost stub has let go already.
      throw error;
    }
  }

  /** Takes over a program to which the stub is attached already. Its stopped threads come out of `stops` as if anew. */
  async adopt(pid: number, { signal }: { signal?: AbortSignal } = {}): Promise<readonly AttachedThread[]> {
    this.#pid = pid;
    this.#isAdopting = true;
    await this.#open().rescan(signal);
    this.#isAdopting = false;
    await letGoOfOthers(this.#open(), pid, signal);
    const threads = await this.#listThreads(signal);
    if (threads.length === 0) throw new GdbError("gdb.gone", `gdbserver holds process ${pid} no more`, { pid });
    await this.#learnLayout(pid, signal);
    return threads;
  }

  /** Resumes every thread that was stopped on request. Threads that stopped by themselves stay as they are. */
  async resumeAll(): Promise<void> {
    this.#askedAll = false;
    const threads = [...this.#stopped.values()].flatMap(({ stop }) => (stop.gdbSignal === 0 ? [stop.thread] : []));
    if (threads.length === 0) return;
    const packets = continueRequests(threads);
    for (const { tid } of threads) this.#stopped.delete(tid);
    expectOk(await this.#open().resumeMany(threads, packets), "resume all threads");
  }

  /**
   * All stops from now on, in order, for one reader. Ends when this side closes, lets go, or the program has ended.
   * @throws GdbError "gdb.closed", "gdb.timeout", "gdb.frame", "gdb.message", "gdb.violation" where the stub was lost
   */
  stops(): AsyncGenerator<StopEvent, void, void> {
    return this.#events.read();
  }

  /** Registers and cause of a stopped thread. They were asked for when the stop came, so this seldom waits. */
  inspect(tid: number): Promise<Inspection> {
    const record = this.#stopped.get(tid);
    if (record === undefined) return Promise.reject(stale(tid));
    record.inspection ??= record.replies.then((replies) => readInspection(this.layout, record.stop, replies));
    return record.inspection;
  }

  /** The right to change and resume the thread in its present stop. @throws GdbError "gdb.stale" where it is not stopped */
  control(tid: number): StopControl {
    const record = this.#stopped.get(tid);
    if (record === undefined) throw stale(tid);
    return stopControl(record.from, {
      isNow: () => this.#stopped.get(tid) === record,
      raw: async () => (await this.inspect(tid)).raw,
      resume: (action, raw, changes) => this.#resume(record, action, raw, changes),
    });
  }

  /** Stops one running thread. `stops` does not tell it, but tells a fatal signal that came first. @throws "gdb.gone" */
  async stopThread(tid: number, signal?: AbortSignal): Promise<Inspection> {
    if (this.#stopped.has(tid)) return this.inspect(tid);
    const thread = this.#thread(tid);
    const connection = this.#open();
    const [alive = ""] = await connection.request([`T${formatThread(thread)}`], { signal });
    if (alive !== "OK") throw new GdbError("gdb.gone", `there is no thread ${tid}`, { tid });
    this.#asked.add(tid);
    try {
      expectOk(await connection.request([`vCont;t:${formatThread(thread)}`], { signal }), `stop thread ${tid}`);
      await this.#until(() => this.#stopped.has(tid), signal);
      return await this.inspect(tid);
    } finally {
      this.#asked.delete(tid);
    }
  }

  isStopped(tid: number): boolean {
    return this.#stopped.has(tid);
  }

  /** Has `stops` tell a thread that `stopThread` has stopped: whoever reads them resumes it. */
  tellHung(tid: number, loop: VirtualAddress): void {
    const { pid } = this.#thread(tid);
    this.#events.push({ kind: "hung", pid, tid, loop, atNs: this.options.clock.monotonicNs() });
  }

  /**
   * Runs one instruction of a stopped thread with these registers changed, and gives the thread in the stop after it: SIGTRAP
   * unless a fatal signal came first; any other reaches the program with the resume. `stops` does not tell it.
   */
  async step(tid: number, changes: ReadonlyMap<number, bigint>): Promise<Inspection> {
    const { pc } = callingConvention[this.architecture];
    return await this.#owed.step(tid, changes.get(pc), async () => {
      const inspection = await this.#goOn(tid, changes, "s");
      const gdbSignal = this.#stopped.get(tid)?.stop.gdbSignal ?? 0;
      return { inspection, gdbSignal, at: inspection.registers[pc] ?? null };
    });
  }

  /** As `step`, but runs until the thread stops by itself: the registers must lead it to a stop, and soon. */
  runToStop(tid: number, changes: ReadonlyMap<number, bigint>): Promise<Inspection> {
    return this.#goOn(tid, changes, "c");
  }

  /** Resumes a stopped thread with all registers as they were at an earlier stop: bytes of `g`. */
  async resumeAs(tid: number, raw: Uint8Array): Promise<void> {
    const record = this.#stopped.get(tid);
    if (record === undefined) throw stale(tid);
    await this.#resume(record, "c", raw);
  }

  async #goOn(tid: number, changes: ReadonlyMap<number, bigint>, action: "s" | "c"): Promise<Inspection> {
    const record = this.#stopped.get(tid);
    if (record === undefined) throw stale(tid);
    const { raw } = await this.inspect(tid);
    this.#stepping.set(tid, record.from);
    try {
      await this.#resume(record, action, raw, changes);
      await this.#until(() => this.#stopped.has(tid));
      return await this.inspect(tid);
    } finally {
      this.#stepping.delete(tid);
    }
  }

  /** Reads memory, of a running thread too; shorter where unmapped memory begins. */
  readMemory(from: VirtualAddress, lengthBytes: number, tid: number, signal?: AbortSignal): Promise<Uint8Array> {
    return readStubMemory(this.#open(), this.#thread(tid), from, lengthBytes, signal);
  }

  /** Writes memory of a stopped thread's program. @throws GdbError "gdb.refused" where it cannot be written */
  async writeMemory(at: VirtualAddress, bytes: Uint8Array, tid: number, signal?: AbortSignal): Promise<void> {
    await writeStubMemory(this.#open(), this.#thread(tid), at, bytes, signal);
  }

  /** A file as the stub sees it, null where it cannot be opened: `/proc` of a guest. */
  readFile(path: string, signal?: AbortSignal): Promise<Uint8Array | null> {
    return readStubFile(this.#open(), path, signal);
  }

  /** What each path leads to as a symbolic link; null where it is none. One round trip for all of them. */
  readLinks(paths: readonly string[], signal?: AbortSignal): Promise<(string | null)[]> {
    return readStubLinks(this.#open(), paths, signal);
  }

  /** Returns when the stub answers. Stops nothing. */
  async answers(signal?: AbortSignal): Promise<void> {
    await this.#open().request(["qC"], { signal });
  }

  /** All threads of the program. gdbserver stops them all for as long as it lists them (measured: a switch each). */
  async threads(signal?: AbortSignal): Promise<{ thread: ThreadId; name: string }[]> {
    return await readThreads(this.#open(), this.#thread(0).pid, signal);
  }

  /** All processes that the stub sees: how a program inside a guest is found by name. */
  async processes(signal?: AbortSignal): Promise<{ pid: number; user: string; command: string }[]> {
    return parseProcesses(await this.#open().xfer("osdata:read:processes", { signal }));
  }

  /** From now on a process that the program forks is held from its first instruction, and told by `stops`. */
  async followForks(signal?: AbortSignal): Promise<void> {
    await followForks(this.#open(), signal);
  }

  /** Lets go of one process that the program has forked. It runs on. @throws GdbError "gdb.refused" where it has ended */
  async release(pid: number, signal?: AbortSignal): Promise<void> {
    await letGoOf(this.#open(), pid, signal);
    for (const [tid, { stop }] of this.#stopped) if (stop.thread.pid === pid) this.#stopped.delete(tid);
  }

  /** Lets go of the program, which runs on unwatched; a thread in a fatal stop gets its signal. gdbserver then ends. */
  async detach(signal?: AbortSignal): Promise<void> {
    await this.release(this.#thread(0).pid, signal);
    this.#pid = null;
    this.#stopped.clear();
    this.#events.finish();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#events.finish();
    await this.#connection?.[Symbol.asyncDispose]();
  }

  #open(): GdbConnection {
    if (this.#connection === null) throw new GdbError("gdb.closed", "the stub is not open yet");
    return this.#connection;
  }

  #thread(tid: number): ThreadId {
    if (this.#pid === null) throw new GdbError("gdb.refused", "no program is attached");
    return { pid: this.#pid, tid };
  }

  #until(condition: () => boolean, signal?: AbortSignal): Promise<void> {
    return this.#events.until(condition, this.#open().timeoutMs, signal);
  }

  async #learnLayout(pid: number, signal: AbortSignal | undefined): Promise<void> {
    this.#layout = await readLayout(this.#open(), pid, signal);
    if (this.options.rehearsed !== false)
      await rehearse(this.#layout, this.options.clock, () => this.#stopped.size > 0);
  }

  async #listThreads(signal: AbortSignal | undefined): Promise<AttachedThread[]> {
    return (await this.threads(signal)).map(({ thread, name }) => ({ tid: thread.tid, name, registers: null }));
  }

  async #stopAll(pid: number, signal: AbortSignal | undefined): Promise<AttachedThread[]> {
    this.#askedAll = true;
    const stop = `vCont;t:${formatThread({ pid, tid: -1 })}`;
    expectOk(await this.#open().request([stop], { signal }), "stop all threads");
    for (let round = 0; round < stopRoundsMax; round += 1) {
      const threads = await this.#listThreads(signal);
      if (threads.every(({ tid }) => this.#stopped.has(tid))) {
        return Promise.all(
          threads.map(async (thread) => ({ ...thread, registers: (await this.inspect(thread.tid)).registers })),
        );
      }
      const before = this.#stopped.size;
      await this.#until(() => this.#stopped.size > before, signal);
    }
    throw new GdbError("gdb.attach", `process ${pid} makes threads faster than they can be stopped`, { pid });
  }

  async #resume(record: StopRecord, wanted: string, raw: Uint8Array | null, changes = unchanged): Promise<void> {
    const { thread, serial } = record.stop;
    const { tid } = thread;
    const registers = raw === null ? null : writeRequest(this.layout, raw, changes, this.#open().packetBytes);
    this.#stopped.delete(tid);
    const isFree = !this.#stepping.has(tid);
    const action = wanted === "c" && isFree ? this.#owed.action(tid) : wanted;
    expectOk(await this.#open().resume({ thread, serial, action, registers }), `resume thread ${tid}`);
    // One signal goes with each resume: for the next one it is stopped again, by nobody's wish.
    if (isFree && this.#owed.isOwed(tid)) await this.#open().request([`vCont;t:${formatThread(thread)}`]);
  }

  #takeStop(stop: Stopped, replies: Promise<readonly string[]>): void {
    const { pid, tid } = stop.thread;
    const record: StopRecord = { stop, from: this.#stepping.get(tid) ?? stop, replies, inspection: null };
    this.#stopped.set(tid, record);
    if (stop.execPath !== null) {
      for (const [other, { stop: its }] of this.#stopped)
        if (other !== tid && its.thread.pid === pid) this.#stopped.delete(other);
      this.#events.push({ kind: "exec", pid, tid, path: stop.execPath });
      this.#letGo(record);
    } else if (this.#stepping.has(tid)) {
      // `step` waits for it.
    } else if (passedSignals.includes(stop.gdbSignal) && !this.#isAdopting) {
      // gdbserver 13 now and then reports a signal that it was told to pass on (SIGCONT after SIGSTOP, measured).
      this.#letGo(record, deliverAction(stop));
    } else if (stop.gdbSignal !== 0) {
      this.#events.push({ kind: "signal", pid, tid, signal: stop.signal, atNs: this.options.clock.monotonicNs() });
    } else if (!this.#isAsked(tid)) {
      // Asked for by a client before us, or by a caller who gave up waiting.
      this.options.log("info", "gdb.unasked", { tid });
      this.#letGo(record);
    }
    this.#events.changed();
  }

  #takeFork(thread: ThreadId, child: ThreadId | null): void {
    const threads = child === null ? [thread] : [thread, child];
    const resumed = this.#open().resumeMany(threads, continueRequests(threads));
    this.#seeResumed(thread, this.#isAsked(thread.tid), resumed);
    if (child !== null) this.#events.push({ kind: "forked", pid: thread.pid, child: child.pid });
  }

  #isAsked = (tid: number): boolean => this.#askedAll || this.#asked.has(tid);

  /** Resumes a thread whose stop is nobody's business. One that was to be stopped is asked again: this was its stop. */
  #letGo(record: StopRecord, action = "c"): void {
    const { thread, gdbSignal } = record.stop;
    this.#seeResumed(thread, gdbSignal !== 0 && this.#isAsked(thread.tid), this.#resume(record, action, null));
  }

  /** `again`: it was to be stopped for somebody, and has stopped for something else. */
  #seeResumed(thread: ThreadId, again: boolean, resumed: Promise<unknown>): void {
    const done = again ? resumed.then(() => this.#open().request([`vCont;t:${formatThread(thread)}`])) : resumed;
    done.catch((error: unknown) => {
      // Gone or stale: the thread has ended meanwhile. Anything else would leave it stopped for ever.
      if (error instanceof GdbError && (error.code === "gdb.gone" || error.code === "gdb.stale")) return;
      this.#open().lose(
        new GdbError("gdb.closed", "a thread that must not stay stopped could not be resumed", {}, error),
      );
    });
  }

  #takeEnd(reply: Ended): void {
    if (reply.kind === "exited" || reply.kind === "killed") {
      for (const [tid, { stop }] of this.#stopped) if (stop.thread.pid === reply.pid) this.#stopped.delete(tid);
      this.#events.push(reply);
      if (reply.pid === this.#pid) endStub(this.#open(), this.#events);
    } else if (reply.kind === "threadExited") {
      this.#stopped.delete(reply.thread.tid);
      this.#owed.forget(reply.thread.tid);
    }
    this.#events.changed();
  }
}
