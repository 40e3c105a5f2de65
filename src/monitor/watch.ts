// SPDX-License-Identifier: Apache-2.0
/**
 * One program on this machine under watch: its memory, its code, its spines, and the stub that stops its threads.
 *
 * Gets an attached client; gives reports of stopped threads and the signs of life that a verdict needs. Looks at blocked
 * threads through /proc, which stops nothing (threadLooks.ts).
 */

import { callingConvention } from "#binary/callingConvention.ts";
import type { InstructionSet } from "#binary/instructionSet.ts";
import { instructionsOf } from "#binary/instructions.ts";
import { unwind, unwindBlocked } from "#binary/unwind.ts";
import { type Clock, seededRandom } from "#clock.ts";
import { ProgramError } from "#errors.ts";
import type { Architecture, Decision, FaultId, FaultSignal, Registers, ThreadControl, VirtualAddress } from "#fault.ts";
import type { Log } from "#log.ts";
import { BoundConnections } from "./boundConnections.ts";
import { heldUp } from "./boundWaits.ts";
import { CallSites } from "./callSites.ts";
import type { CodeFacts } from "./codeFacts.ts";
import { CodeLoader } from "./codeLoader.ts";
import { rehearseCode } from "./codeRehearsal.ts";
import type { Connections } from "./connectionEvidence.ts";
import { cLibraryPattern, decodeFault, type StopFacts, spineFrames, type UnsitedReport } from "./faultDecoder.ts";
import type { GdbClient } from "./gdb/client.ts";
import { isCaught } from "./gdb/signals.ts";
import { HandedConnection } from "./handedConnection.ts";
import { findSystemCallInstruction } from "./injectedCalls.ts";
import { callFunction, theFunction } from "./injectedFunctions.ts";
import { isWaiting, type LockWait, LockWaits } from "./lockWaits.ts";
import type { StackLook } from "./loopFrame.ts";
import { type MainModule, mainModule } from "./mainModule.ts";
import {
  type BlockedThread,
  hasDied,
  isAlive,
  readBlocked,
  readExecutable,
  readStatus,
  readThreads,
} from "./processes.ts";
import { NativeProgramView } from "./programView.ts";
import { type Excused, Progress, type Waits } from "./progress.ts";
import { rehearsalOf } from "./rehearsedStop.ts";
import { RestartableSequences } from "./restartableSequences.ts";
import { Sessions } from "./sessions.ts";
import { SharedCode } from "./sharedCode.ts";
import { Spines } from "./spines.ts";
import { ThreadCensus } from "./threadCensus.ts";
import { threadControl } from "./threadControl.ts";
import { ThreadLooks } from "./threadLooks.ts";
import { ThreadProgress } from "./threadProgress.ts";
import { isTorn } from "./tornChange.ts";
import { waitKind } from "./waits.ts";

/** Between two looks whether a program serves yet. */
const servingLookMs = 10;
const spineFramesMax = 128;
const rehearsalPauseMs = 1;
const rehearsedThreadsMax = 8;

export type Stop = {
  readonly tid: number;
  readonly signal: string;
  readonly atNs: number;
  /** Of a thread that hangs: the frame in which it goes round, by its canonical address. */
  readonly loop?: VirtualAddress;
};

export class Watch implements Disposable {
  readonly spines: Spines;
  readonly busy: ThreadProgress;
  readonly #view: NativeProgramView;
  readonly #code: CodeLoader;
  readonly #facts: CodeFacts;
  readonly #callSites: CallSites;
  readonly #sessions: Sessions;
  readonly #bound: BoundConnections;
  readonly #handed: HandedConnection;
  readonly #progress = new Progress();
  readonly #sequences: RestartableSequences;
  readonly #lockWaits: LockWaits;
  readonly #census: ThreadCensus;
  readonly #looks: ThreadLooks;
  #systemCallAt: bigint | null = null;
  readonly #parked = new Set<number>();
  /** The fatal signal that a thread was given last; forgotten once it is seen to wait for work again. */
  readonly #delivered = new Map<number, string>();
  /** Voluntary switches of a thread at its last stop. */
  readonly #blockedAtStop = new Map<number, number>();

  /** @throws ProgramError "program.gone", "program.permission"; BinaryError where its code cannot be read */
  static open(options: {
    workload: string;
    pid: number;
    architecture: Architecture;
    clock: Clock;
    log: Log;
    nextFaultId: () => FaultId;
    /** What was read for other programs already. */
    code?: SharedCode | undefined;
    /** True where a connection that is cut next may be held open by us. */
    keepsCut?: (() => boolean) | undefined;
  }): Watch {
    const watch = new Watch(options, instructionsOf(options.architecture));
    watch.#code.refresh();
    return watch;
  }

  private constructor(
    private readonly options: Parameters<typeof Watch.open>[0],
    private readonly instructions: InstructionSet,
  ) {
    this.#view = new NativeProgramView(options.pid, options.architecture);
    const code = options.code ?? new SharedCode();
    this.#facts = code.facts;
    this.#code = new CodeLoader(this.#view, options.log, code);
    this.#callSites = new CallSites(instructions, this.#facts);
    this.#sequences = new RestartableSequences(this.#view);
    this.spines = new Spines(options.architecture, (blocked) => this.#framesOf(blocked));
    this.#bound = new BoundConnections(this.#view);
    this.#handed = new HandedConnection(options.pid, options.clock);
    this.#sessions = new Sessions(
      this.#view,
      options.log,
      (tid) => this.spines.multiplexersFor(tid),
      (tid) => this.#handed.bound ?? this.#bound.of(tid, readThreads(options.pid)),
      options.keepsCut,
    );
    this.#census = new ThreadCensus(() => readThreads(options.pid), options.clock);
    this.#looks = new ThreadLooks({
      ...{ pid: options.pid, architecture: options.architecture, clock: options.clock },
      ...{ census: this.#census, spines: this.spines, bound: this.#bound },
      idle: (tid) => this.#delivered.delete(tid),
    });
    this.#lockWaits = LockWaits.of(options.pid, options.architecture);
    this.busy = new ThreadProgress(options.pid, this.spines, () => this.#sessions.sockets(), options.log);
  }

  get pid(): number {
    return this.options.pid;
  }

  /** Reads the stopped thread once. @throws GdbError */
  async report(stop: Stop, client: GdbClient): Promise<{ report: UnsitedReport; control: ThreadControl }> {
    const control = this.#control(stop, client);
    const inspecting = client.inspect(stop.tid);
    // The registers are on their way: what needs only the kernel is read meanwhile.
    const status = readStatus(this.pid, stop.tid);
    this.#handed.look(this.#code.map);
    const connections = this.#sessions.look(stop.tid);
    const { registers, cause } = await inspecting;
    this.#followCode(registers);
    if (!this.spines.knows(stop.tid)) this.#looks.atPeers();
    const switches = status?.voluntarySwitches ?? null;
    const report = this.#decode({
      id: this.options.nextFaultId(),
      atMs: this.options.clock.wallMs(),
      tid: stop.tid,
      threadName: status?.name ?? "",
      threads: status?.threads ?? 1,
      threadsLost: stop.signal === "SIGABRT" ? this.#census.lost() : 0,
      signal: stop.signal as FaultSignal,
      registers,
      cause: cause === null ? null : { ...cause, senderPid: this.#ownPid(cause.senderPid, status?.innermostPid) },
      caught: status !== null && isCaught(status.caughtSignals, stop.signal),
      deliveredBefore: this.#delivered.get(stop.tid) ?? null,
      blockedSince: this.#cameBackSince(stop.tid, status?.threads ?? 1, switches, connections),
      connections,
      leaveAt: this.#handed.leaveAt,
      loop: stop.loop ?? null,
    });
    return { report, control };
  }

  /** Reads all code for what decisions need of it. Takes some 10 ms for a million bytes, in small steps. */
  async prepare(signal: AbortSignal): Promise<void> {
    this.#sequences.learn(this.#code.map);
    this.#handed.look(this.#code.map);
    this.#systemCallAt = findSystemCallInstruction(this.#code.map);
    await this.#facts.prepare(this.#code.map, this.options.clock, signal);
    this.#callSites.forget();
  }

  /** Learns how threads wait until the signal aborts. Never rejects for a program that is gone. */
  learn(signal: AbortSignal): Promise<void> {
    return this.#looks.run(signal);
  }

  /** Resolves once some thread was twice seen waiting at the same place, or after `patienceMs`. True: it serves. */
  async untilServing(patienceMs: number, signal: AbortSignal): Promise<boolean> {
    const endNs = this.options.clock.monotonicNs() + patienceMs * 1e6;
    let before: BlockedThread | null = null;
    while (this.options.clock.monotonicNs() < endNs && isAlive(this.pid)) {
      const now = readBlocked(this.pid, this.pid);
      const waits = now !== null && waitKind(now.syscall, this.options.architecture) > 0;
      if (waits && before?.sp === now.sp && before.pc === now.pc) {
        this.#code.refresh();
        this.#looks.once();
        return true;
      }
      before = now;
      await this.options.clock.sleep(servingLookMs, signal);
    }
    return false;
  }

  /**
   * Reports on threads as if they had faulted where they wait, so that the first real fault finds its code compiled and
   * its tables read. Gives each report to `also`; stops nothing, and gives way to others between two rounds.
   */
  async rehearse(rounds: number, also: (report: UnsitedReport) => void, signal: AbortSignal): Promise<void> {
    for (let round = 0; round < rounds && !signal.aborted; round += 1) {
      const tid = readThreads(this.pid)[round % rehearsedThreadsMax];
      const blocked = tid === undefined ? null : readBlocked(this.pid, tid);
      if (blocked !== null) also(this.#decode(rehearsalOf(tid!, blocked, this.options)));
      rehearseCode(this.#code.map, this.instructions, this.#callSites, seededRandom(round));
      await this.options.clock.sleep(rehearsalPauseMs, signal).catch(() => {});
    }
  }

  get program(): MainModule {
    return mainModule(this.#code.map, readExecutable(this.pid));
  }

  /** Whether a change to shared data was left half done. `released`: a lock of the abandoned work had to be released. */
  isTorn({ frames }: Pick<UnsitedReport, "frames">, { edit }: Pick<Decision, "edit">, released: boolean): boolean {
    return isTorn(frames, edit, released, this.#code.map, this.instructions);
  }

  get threadCount(): number {
    return this.threadIds().length;
  }

  threadIds(): readonly number[] {
    return readThreads(this.pid);
  }

  isAlive(): boolean {
    return isAlive(this.pid);
  }

  /** `idle`: it waits for work, or has come back to it since its last fault. */
  threadState(tid: number): "idle" | "busy" | "gone" {
    const blocked = readBlocked(this.pid, tid);
    if (blocked !== null && this.spines.isIdle(tid, blocked)) return "idle";
    const status = readStatus(this.pid, tid);
    if (status === null) return "gone";
    if (blocked !== null || status.threads > 1) return "busy";
    return (this.#progress.readAnew(tid, this.#sessions.sockets()) ?? 0) > 0 ? "idle" : "busy";
  }

  hasDied(tid: number): boolean {
    return hasDied(this.pid, tid);
  }

  isWaiting(tid: number): boolean {
    return isWaiting(readBlocked(this.pid, tid), this.options.architecture);
  }

  /** What is wrong where requests wait in vain since this thread's last fault; null where they do not. */
  unserved(tid: number, excused: Excused, signal: AbortSignal): Promise<string | null> {
    const look = (): Waits => ({
      sockets: this.#sessions.sockets(),
      lockWaits: this.lockWaits().map(({ tid: waiter, at, sinceNs }) => `${waiter} ${at} ${sinceNs}`),
      heldUp: heldUp(this.pid, this.#bound.among(this.threadIds()), this.spines),
    });
    return this.#progress.unserved(tid, excused, look, this.options.clock, signal);
  }

  /** The stack of a stopped thread, and where its spine begins. */
  stackOf(tid: number, registers: Registers): StackLook {
    this.#followCode(registers);
    const frames = spineFrames(unwind(registers, this.#read, this.#code.map, spineFramesMax).frames, this.#code.map);
    const spine = this.spines.spineIn(tid, frames);
    // A thread that was never seen waiting: where it has only the C library in common with others, it may be one that never does.
    const isLike = spine !== null && (this.spines.knows(tid) || !this.#isCLibrary(frames[spine]!.pc));
    return { frames, spine: isLike ? spine : null };
  }

  /** Threads that wait for a lock now. */
  lockWaits(): readonly LockWait[] {
    return this.#lockWaits.look(this.options.clock.monotonicNs());
  }

  readMemory(from: VirtualAddress, lengthBytes: number): Uint8Array {
    return this.#view.readMemory(from, lengthBytes);
  }

  /** Stops a thread for as long as `work` takes. A wait that this interrupts is made again by the kernel. @throws GdbError */
  async whileStopped(tid: number, client: GdbClient, work: (control: ThreadControl) => Promise<void>): Promise<void> {
    await client.stopThread(tid);
    const control = this.#control({ tid, signal: "SIGSTOP", atNs: this.options.clock.monotonicNs() }, client);
    try {
      await work(control);
    } finally {
      await control.resume();
    }
  }

  /** Has a thread that waits for work call a function of the C library. @throws GdbError "gdb.refused" where it cannot */
  async callIn(tid: number, name: string, argument: bigint, client: GdbClient): Promise<bigint> {
    const at = theFunction(this.#code.map, name);
    const isThere = (place: { sp: VirtualAddress; pc: VirtualAddress }): boolean =>
      this.spines.isIdle(tid, place) || this.#parked.has(tid);
    const write = async (to: VirtualAddress, bytes: Uint8Array): Promise<void> => this.#view.writeMemory(to, bytes);
    return await callFunction({ tid, at, argument }, client, isThere, write);
  }

  /** The program has become another one: nothing that was known of it holds. */
  replaced(): void {
    for (const tid of readThreads(this.pid)) this.spines.forget(tid);
    this.#code.refresh();
  }

  [Symbol.dispose](): void {
    this.busy[Symbol.dispose]();
    this.#sessions[Symbol.dispose]();
    this.#view[Symbol.dispose]();
  }

  #control({ tid, signal }: Stop, client: GdbClient): ThreadControl {
    return threadControl({
      pid: this.pid,
      tid,
      client,
      writeMemory: async (at, bytes) => this.#view.writeMemory(at, bytes),
      systemCallInstruction: () => this.#systemCallInstruction(),
      delivered: () => this.#delivered.set(tid, signal),
      parked: () => this.#parked.add(tid),
    });
  }

  #systemCallInstruction(): bigint {
    if (this.#systemCallAt !== null) return this.#systemCallAt;
    throw new ProgramError("program.unsupported", "the program has no system call instruction");
  }

  #decode(facts: StopFacts): UnsitedReport {
    return decodeFault(facts, {
      workload: this.options.workload,
      view: this.#view,
      map: this.#code.map,
      instructions: this.instructions,
      callSites: this.#callSites,
      spines: this.spines,
      sessions: this.#sessions,
      sequences: this.#sequences,
    });
  }

  /** Code that was loaded since the last look is found now, because the thread stopped in it. */
  #followCode(registers: Registers): void {
    const pc = registers[callingConvention[this.options.architecture].pc];
    if (pc != null && this.#code.map.locate(Number(pc)) === null) this.#code.refresh();
  }

  /**
   * The stop itself is one switch; every other one since the last stop was a wait of the program. A server that is never
   * out of work does not wait: where it has one thread, what it has read from connections shows the same.
   */
  #cameBackSince(tid: number, threads: number, switches: number | null, { sockets }: Connections): number | null {
    const before = this.#blockedAtStop.get(tid);
    if (switches !== null) this.#blockedAtStop.set(tid, switches);
    const read = threads === 1 ? this.#progress.readAnew(tid, sockets) : null;
    this.#progress.note(tid, sockets);
    if (before === undefined || switches === null) return null;
    return Math.max(0, switches - before - 1) + (read ?? 0);
  }

  /** In a pid namespace of its own the program signals itself by another number than ours. */
  #ownPid(sender: number | null, innermostPid: number | undefined): number | null {
    return sender !== null && sender === innermostPid ? this.pid : sender;
  }

  #isCLibrary(pc: VirtualAddress): boolean {
    const module = this.#code.map.find(pc)?.module;
    return cLibraryPattern.test(module === undefined ? "" : (this.#code.map.modules[module]?.path ?? ""));
  }

  #read = (from: VirtualAddress, bytes: number): Uint8Array => this.#view.readMemory(from, bytes);

  #framesOf(blocked: BlockedThread): ReturnType<typeof spineFrames> {
    if (this.#code.map.locate(Number(blocked.pc)) === null) this.#code.refresh();
    const map = this.#code.map;
    return spineFrames(unwindBlocked(blocked.pc, blocked.sp, this.#read, map, spineFramesMax).frames, map);
  }
}
