// SPDX-License-Identifier: Apache-2.0
/**
 * One program inside a guest under watch, through its stub alone: the same reports and signs of life as for a native one.
 *
 * Gets an attached client; reads memory with `m` and the guest's files with vFile, and stops nothing but what stops by
 * itself. Whose request a thread worked for is not known here: the guest's sockets are out of reach. Looks at threads every
 * 200 ms while a way of waiting is not known yet, then every 5 s; at a thread on probation every 20 ms; for a third of the time at most.
 */
import { callingConvention } from "#binary/callingConvention.ts";
import type { InstructionSet } from "#binary/instructionSet.ts";
import { instructionsOf } from "#binary/instructions.ts";
import { unwind } from "#binary/unwind.ts";
import { type Clock, seededRandom } from "#clock.ts";
import { ProgramError } from "#errors.ts";
import {
  address,
  type Decision,
  type FaultId,
  type FaultSignal,
  type Registers,
  type ThreadControl,
  type VirtualAddress,
} from "#fault.ts";
import type { Log } from "#log.ts";
import { CallSites } from "../callSites.ts";
import { CodeFacts } from "../codeFacts.ts";
import { rehearseCode } from "../codeRehearsal.ts";
import { type ProgramKnowledge, spineFrames, type UnsitedReport } from "../faultDecoder.ts";
import type { GdbClient } from "../gdb/client.ts";
import { isCaught } from "../gdb/signals.ts";
import { findSystemCallInstruction } from "../injectedCalls.ts";
import { theFunction } from "../injectedFunctions.ts";
import { isWaiting } from "../lockWaits.ts";
import type { StackLook } from "../loopFrame.ts";
import { type MainModule, mainModule } from "../mainModule.ts";
import { parseThreadCount } from "../processes.ts";
import type { Excused } from "../progress.ts";
import { rehearsalOf } from "../rehearsedStop.ts";
import { RestartableSequences } from "../restartableSequences.ts";
import type { Spines } from "../spines.ts";
import { threadControl } from "../threadControl.ts";
import { isTorn } from "../tornChange.ts";
import type { Stop } from "../watch.ts";
import type { ConnectionList } from "./connectionList.ts";
import { RemoteBusy } from "./remoteBusy.ts";
import { type ImageStore, RemoteCode, readText } from "./remoteCode.ts";
import { RemoteDecoder } from "./remoteDecoder.ts";
import { type GuestThreads, RemoteLocks } from "./remoteLocks.ts";
import { RemoteSessions } from "./remoteSessions.ts";
import { RemoteSpines, spineFramesMax } from "./remoteSpines.ts";
import { RemoteThreads } from "./remoteThreads.ts";
import { RemoteView } from "./remoteView.ts";

const eagerLookMs = 200;
const idleLookMs = 5_000;
const trialLookMs = 20;
/** Looks that take long are followed by a rest of so many times their length. */
const restShare = 2;
/** How long after a stop its thread is looked at often, on a machine of the usual speed; longer than any probation. */
const trialMs = 5_000;
/** A slow guest is looked at so often before it is said that nobody is served. */
const servingRounds = 30;
/** A slow guest is not rehearsed to the end: it would be unguarded for longer than it is slower at its first fault. */
const [rehearsalRoundsMin, rehearsalMsMax] = [3, 5_000];
/** Fetched at once at every stop: most stacks of a server at work fit. */
const stackBytes = 16 << 10;

export type GuestProgramOptions = {
  readonly workload: string;
  readonly pid: number;
  readonly client: GdbClient;
  readonly images: ImageStore;
  readonly clock: Clock;
  readonly log: Log;
  readonly nextFaultId: () => FaultId;
  /** null where the guest's kit gives none. */
  readonly connections: ConnectionList | null;
};

export class GuestProgramWatch {
  readonly busy: RemoteBusy;
  readonly locks: RemoteLocks;
  /** With memory of the thread that is stopped, and of one that may hang: neither must forget for the other. */
  readonly #decoder: RemoteDecoder;
  readonly #hangView: RemoteView;
  readonly #code: RemoteCode;
  readonly #threads: RemoteThreads;
  readonly #instructions: InstructionSet;
  readonly #facts = new CodeFacts();
  readonly #callSites: CallSites;
  readonly #sequences: RestartableSequences;
  readonly #learned: RemoteSpines;
  readonly #sessions: RemoteSessions;
  readonly #blockedAtStop = new Map<number, number>();
  /** Threads that stopped lately, and when. */
  readonly #stoppedNs = new Map<number, number>();
  /** Signals that were passed on to a thread which has not been idle since. */
  readonly #delivered = new Map<number, string>();
  readonly #parked = new Set<number>();
  #reporting = 0;
  #rounds = 0;
  #systemCallAt: bigint | null = null;
  #tids: readonly number[] = [];

  private constructor(private readonly options: GuestProgramOptions) {
    const { client, pid, clock, log, images } = options;
    const readFile = (path: string): Promise<Uint8Array | null> => client.readFile(path);
    const readPages = (from: VirtualAddress, bytes: number): Promise<Uint8Array> => client.readMemory(from, bytes, pid);
    this.#decoder = new RemoteDecoder(pid, client.architecture, readPages);
    this.#hangView = new RemoteView(pid, client.architecture, readPages);
    this.#code = new RemoteCode(pid, readFile, readPages, images, log);
    this.#threads = new RemoteThreads(pid, readFile, clock);
    this.#instructions = instructionsOf(client.architecture);
    this.#callSites = new CallSites(this.#instructions, this.#facts);
    this.#sequences = new RestartableSequences(this.#decoder.view);
    const looked = new RemoteView(pid, client.architecture, readPages);
    this.#learned = new RemoteSpines(client.architecture, this.#threads, this.#code, looked);
    const known = { threads: () => this.#tids, descriptorOf: (tid: number) => this.#spines.descriptorOf(tid) };
    this.#sessions = new RemoteSessions({
      ...{ pid, architecture: client.architecture, clock, readFile, readPages, threads: known.threads },
      readLinks: (paths) => client.readLinks(paths),
      listConnections: async () => (await options.connections?.ask(this.slowness)) ?? null,
      multiplexersFor: (tid) => this.#spines.multiplexersFor(tid),
    });
    this.busy = new RemoteBusy(pid, known, readFile);
    this.locks = new RemoteLocks(this.#guestThreads(), client);
  }

  /** Reads the program's code first, some 10 MB over vsock. @throws GdbError, ProgramError, BinaryError */
  static async open(options: GuestProgramOptions): Promise<GuestProgramWatch> {
    const watch = new GuestProgramWatch(options);
    await watch.#code.refresh();
    await watch.#decoder.view.settle(() => watch.#sequences.learn(watch.#code.map));
    watch.#systemCallAt = findSystemCallInstruction(watch.#code.map);
    return watch;
  }

  get #spines(): Spines {
    return this.#learned.spines;
  }

  get program(): MainModule {
    return mainModule(this.#code.map, null);
  }

  get threadCount(): number {
    return this.#tids.length;
  }

  /** How many times as long as usual it takes to learn anything of this guest. */
  get slowness(): number {
    return this.#threads.slowness;
  }

  /** Reads the stopped thread once; nobody else looks meanwhile. @throws GdbError */
  async report(stop: Stop): Promise<{ report: UnsitedReport; control: ThreadControl }> {
    this.#reporting += 1;
    try {
      return await this.#report(stop);
    } finally {
      this.#reporting -= 1;
    }
  }

  async #report(stop: Stop): Promise<{ report: UnsitedReport; control: ThreadControl }> {
    const { client, clock, nextFaultId } = this.options;
    const control = this.#control(stop.tid, stop.signal);
    const looking = this.#threads.look(stop.tid);
    // Where the stub is lost, both fail: the inspection is what says so.
    looking.catch(() => {});
    this.#stoppedNs.set(stop.tid, clock.monotonicNs());
    this.#decoder.forget();
    const connected = this.#sessions.lookAtStop(stop.tid);
    connected.catch(() => {});
    const { registers, cause } = await client.inspect(stop.tid);
    const convention = callingConvention[client.architecture];
    const sp = registers[convention.sp] ?? 0n;
    const [look, connections] = await Promise.all([
      looking,
      connected,
      this.#decoder.view.fetch(address(sp), stackBytes),
    ]);
    this.#threads.stopped(stop.tid);
    const pc = registers[convention.pc];
    if (pc != null && this.#code.map.locate(Number(pc)) === null) await this.#code.refresh();
    const status = look?.status ?? null;
    const ownPid = cause?.senderPid === status?.innermostPid ? this.options.pid : (cause?.senderPid ?? null);
    const facts = {
      id: nextFaultId(),
      atMs: clock.wallMs(),
      tid: stop.tid,
      threadName: status?.name ?? "",
      threads: status?.threads ?? 1,
      signal: stop.signal as FaultSignal,
      registers,
      cause: cause === null ? null : { ...cause, senderPid: cause.senderPid === null ? null : ownPid },
      caught: status !== null && isCaught(status.caughtSignals, stop.signal),
      deliveredBefore: this.#delivered.get(stop.tid) ?? null,
      blockedSince: this.#blockedSince(stop.tid, status?.voluntarySwitches ?? null),
      connections,
      loop: stop.loop ?? null,
    };
    return { report: await this.#decoder.decode(facts, this.#knowledge()), control };
  }

  /**
   * Reports on the first thread as if it had faulted where it waits, so that the first real fault finds its code compiled
   * and its tables read. Gives each report to `also`; stops nothing. @throws GdbError
   */
  async rehearse(rounds: number, also: (report: UnsitedReport) => void, signal: AbortSignal): Promise<void> {
    const { client, pid, clock } = this.options;
    const readPages = (from: VirtualAddress, bytes: number): Promise<Uint8Array> => client.readMemory(from, bytes, pid);
    const decoder = new RemoteDecoder(pid, client.architecture, readPages);
    const connections = await this.#sessions.look(pid);
    const endNs = clock.monotonicNs() + rehearsalMsMax * 1e6;
    for (let round = 0; round < rounds && !signal.aborted; round += 1) {
      if (round >= rehearsalRoundsMin && clock.monotonicNs() > endNs) return;
      const blocked = (await this.#threads.look(pid))?.blocked ?? null;
      decoder.view.forget();
      if (blocked !== null) {
        const facts = rehearsalOf(pid, blocked, { clock, architecture: client.architecture });
        also(await decoder.decode({ ...facts, connections }, this.#knowledge()));
      }
      rehearseCode(this.#code.map, this.#instructions, this.#callSites, seededRandom(round));
    }
  }

  /** Reads all code for what decisions need of it. */
  async prepare(signal: AbortSignal): Promise<void> {
    await this.#facts.prepare(this.#code.map, this.options.clock, signal);
    this.#callSites.forget();
  }

  /** Learns how threads wait until the signal aborts. @throws GdbError where the stub is lost */
  async learn(signal: AbortSignal): Promise<void> {
    const { clock } = this.options;
    while (!signal.aborted) {
      const fromNs = clock.monotonicNs();
      const unknown = await this.lookOnce();
      await this.#rest(fromNs, unknown ? eagerLookMs : idleLookMs, signal);
    }
  }

  /** Looks often at threads that stopped lately, until the signal aborts. @throws GdbError where the stub is lost */
  async followTrials(signal: AbortSignal): Promise<void> {
    const { clock } = this.options;
    for (let fromNs = clock.monotonicNs(); !signal.aborted; ) {
      await this.#rest(fromNs, trialLookMs, signal);
      fromNs = clock.monotonicNs();
      for (const [tid, stoppedNs] of this.#stoppedNs) {
        if (clock.monotonicNs() - stoppedNs > trialMs * this.slowness * 1e6) this.#stoppedNs.delete(tid);
        else if (!signal.aborted && this.#reporting === 0) await this.#threads.look(tid);
      }
    }
  }

  /** Looks at every thread once; true while some thread's way of waiting is not known. */
  async lookOnce(): Promise<boolean> {
    const tids = await this.#listThreads();
    let unknown = false;
    for (const tid of tids) {
      if (this.#reporting === 0 && (await this.#learned.observe(tid))) await this.#noteIdle(tid);
      if (!this.#spines.knows(tid)) unknown = true;
    }
    this.#rounds += 1;
    return unknown;
  }

  async #noteIdle(tid: number): Promise<void> {
    this.#delivered.delete(tid);
    const blocked = this.#threads.seen(tid)?.blocked ?? null;
    if (blocked !== null) await this.#sessions.note(tid, blocked);
  }

  /** Asked of the stub only where they have changed: it stops them all for as long as it lists them. */
  async #listThreads(): Promise<readonly number[]> {
    const { client, pid } = this.options;
    const stat = await readText((path) => client.readFile(path), `/proc/${pid}/stat`);
    const count = stat === null ? null : parseThreadCount(stat);
    if (count !== this.#tids.length || this.#tids.some((tid) => this.#threads.isGone(tid)))
      this.#tids = (await client.threads()).map(({ thread }) => thread.tid);
    return this.#tids;
  }

  /** Resolves once the first thread's way of waiting is known, or after `patienceMs` and enough looks. True: it serves. */
  async untilServing(patienceMs: number, signal: AbortSignal): Promise<boolean> {
    const { clock, pid } = this.options;
    const endNs = clock.monotonicNs() + patienceMs * 1e6;
    while ((clock.monotonicNs() < endNs || this.#rounds < servingRounds) && !signal.aborted) {
      if (this.#spines.knows(pid)) return true;
      await clock.sleep(eagerLookMs, signal).catch(() => {});
    }
    return false;
  }

  threadState(tid: number): "idle" | "busy" | "gone" {
    if (this.#threads.isGone(tid)) return "gone";
    const blocked = this.#threads.seen(tid)?.blocked ?? null;
    return blocked !== null && this.#spines.isIdle(tid, blocked) ? "idle" : "busy";
  }

  isWaiting(tid: number): boolean {
    return isWaiting(this.#threads.seen(tid)?.blocked ?? null, this.options.client.architecture);
  }

  timesBlocked(tid: number): number | null {
    if (this.#threads.isGone(tid)) return null;
    return this.#threads.seen(tid)?.status.voluntarySwitches ?? this.#blockedAtStop.get(tid) ?? null;
  }

  /** What is wrong where requests wait in vain since this thread's last fault; null where they do not, or it is not known. */
  unserved(tid: number, excused: Excused, signal: AbortSignal): Promise<string | null> {
    return this.#sessions.unserved(tid, excused, this.slowness, signal);
  }

  /** Whether a change to shared data was left half done. `released`: a lock of the abandoned work had to be released. */
  isTorn({ frames }: Pick<UnsitedReport, "frames">, { edit }: Pick<Decision, "edit">, released: boolean): boolean {
    return isTorn(frames, edit, released, this.#code.map, this.#instructions);
  }

  /** A stop is being worked on: nobody else is to look. */
  get isReporting(): boolean {
    return this.#reporting > 0;
  }

  /** The stack of a stopped thread, and where its spine begins; no spine for a thread that was never seen waiting. */
  async stackOf(tid: number, registers: Registers): Promise<StackLook> {
    const map = this.#code.map;
    const view = this.#hangView;
    view.forget();
    const read = (from: VirtualAddress, bytes: number): Uint8Array => view.readMemory(from, bytes);
    const frames = await view.settle(() => spineFrames(unwind(registers, read, map, spineFramesMax).frames, map));
    return { frames, spine: this.#spines.knows(tid) ? this.#spines.spineIn(tid, frames) : null };
  }

  /** @throws GdbError */
  readMemory(from: VirtualAddress, lengthBytes: number): Promise<Uint8Array> {
    return this.options.client.readMemory(from, lengthBytes, this.options.pid);
  }

  /** Between two rounds of looks, the last of which began at `fromNs`: the stub works on the guest's own processors. */
  async #rest(fromNs: number, msMin: number, signal: AbortSignal): Promise<void> {
    const tookMs = (this.options.clock.monotonicNs() - fromNs) / 1e6;
    await this.options.clock.sleep(Math.max(msMin, tookMs * restShare), signal).catch(() => {});
  }

  #guestThreads(): GuestThreads {
    return {
      pid: this.options.pid,
      clock: this.options.clock,
      threadIds: () => this.#tids,
      threadState: (tid) => this.threadState(tid),
      look: (tid) => this.#threads.look(tid),
      blockedAt: (tid) => this.#threads.seen(tid)?.blocked ?? null,
      isAtRest: (tid, place) => this.#spines.isIdle(tid, place) || this.#parked.has(tid),
      control: (tid, signal) => this.#control(tid, signal),
      functionNamed: (name) => theFunction(this.#code.map, name),
    };
  }

  #knowledge(): Omit<ProgramKnowledge, "view" | "sessions"> {
    return {
      workload: this.options.workload,
      map: this.#code.map,
      instructions: this.#instructions,
      callSites: this.#callSites,
      spines: this.#spines,
      sequences: this.#sequences,
    };
  }

  #control(tid: number, signal: string): ThreadControl {
    const { client, pid } = this.options;
    return threadControl({
      pid,
      tid,
      client,
      writeMemory: (at, bytes) => client.writeMemory(at, bytes, tid),
      systemCallInstruction: () => this.#systemCallInstruction(),
      delivered: () => this.#delivered.set(tid, signal),
      parked: () => this.#parked.add(tid),
    });
  }

  #systemCallInstruction(): bigint {
    if (this.#systemCallAt !== null) return this.#systemCallAt;
    throw new ProgramError("program.unsupported", "the program has no system call instruction");
  }

  /** The stop itself is one switch; every other one since the last stop was a wait of the program. */
  #blockedSince(tid: number, switches: number | null): number | null {
    const before = this.#blockedAtStop.get(tid);
    if (switches !== null) this.#blockedAtStop.set(tid, switches);
    return before === undefined || switches === null ? null : Math.max(0, switches - before - 1);
  }
}
