// SPDX-License-Identifier: Apache-2.0
/**
 * Guards one program inside a guest: finds it through the guest kit, attaches, and sends its faults down the fault path.
 *
 *     connect to the kit ─▶ find the program ─▶ attach ─▶ read its code ─▶ lane … ─ program, guest or stub gone ─▶ connect
 *
 * Gets the vsock of a running guest; ends with the guest. Whatever fails is told once and tried again: a guest boots, its
 * programs restart, its kit may be missing. Letting go leaves the program running, unguarded: its stub lets go of it too.
 */
import type { Clock } from "#clock.ts";
import type { GuestProgram as GuestProgramSection } from "#config/schema.ts";
import { explain, HoldfastError } from "#errors.ts";
import type { Decision, FaultReport } from "#fault.ts";
import type { Log } from "#log.ts";
import { GdbClient } from "#monitor/gdb/client.ts";
import { openSocket } from "#monitor/gdb/transport.ts";
import { ConnectionList } from "#monitor/guest/connectionList.ts";
import { findProgram } from "#monitor/guest/findProgram.ts";
import { GuestProgramWatch } from "#monitor/guest/guestProgramWatch.ts";
import type { ImageStore } from "#monitor/guest/remoteCode.ts";
import { parseProbe } from "#monitor/probes.ts";
import type { Excused } from "#monitor/progress.ts";
import type { Storage } from "#storage/storage.ts";
import { TaskGroup } from "#tasks.ts";
import { startHangKeeper } from "../hangKeeper.ts";
import { withoutInterruptions } from "../interruptions.ts";
import { type LaneEnd, runLane } from "../lane.ts";
import type { LockKeeper } from "../lockKeeper.ts";
import { lockKeeperOf } from "../lockScene.ts";
import type { Notices } from "../notices.ts";
import { defaultProbation, Probation } from "../probation.ts";
import { rehearsalFor } from "../rehearsal.ts";
import type { RescueBook } from "../rescue/rescueBook.ts";
import { hangsOf, policyOf } from "../sectionPolicy.ts";
import { sited } from "../sited.ts";
import type { SuppressionSwitch } from "../suppressionSwitch.ts";
import { Trials } from "../trials.ts";
import type { Workload } from "../workload.ts";

/** Where the guest kit listens (vm/guest-kit/holdfast-stub.socket), vsock. */
export const stubPort = 2_159;
const againMs = 500;
const againMsMax = 5_000;
/** A guest that boots has no kit yet; after this it is told that it has none. */
export const kitPatienceMs = 60_000;
/** Fewer than for a native program: each costs round trips into the guest. */
const rehearsalRounds = 30;
const servingPatienceMs = 30_000;
/** The guest's answers take longer than a native program's; each request of the stub may take so long, longer where one was late. */
const requestTimeoutMs = 20_000;
const requestTimeoutMsMax = 160_000;

export type GuestProgramParts = {
  readonly guest: string;
  readonly section: GuestProgramSection;
  readonly vsockSocket: string;
  /** False while the guest is paused: then nothing answers, and nothing is wrong. */
  readonly runs: () => boolean;
  /** Shared with the other programs of the guest. */
  readonly images: ImageStore;
  readonly storage: Storage;
  readonly rescues: RescueBook;
  readonly suppression: SuppressionSwitch;
  readonly notices: Notices;
  readonly clock: Clock;
  readonly log: Log;
};

export class GuestProgram {
  readonly #trials: Trials;
  #told = "";
  #timeoutMs = requestTimeoutMs;

  constructor(private readonly parts: GuestProgramParts) {
    const { windowMs } = policyOf(parts.section).budget;
    this.#trials = new Trials(withoutInterruptions(parts.storage.history), parts.rescues, windowMs);
  }

  get name(): string {
    return this.parts.section.name;
  }

  /** Until the signal aborts. Never rejects for anything that the guest does. */
  async run(signal: AbortSignal): Promise<void> {
    const { clock, runs } = this.parts;
    const sinceNs = clock.monotonicNs();
    for (let waitMs = againMs; !signal.aborted; waitMs = Math.min(waitMs * 2, againMsMax)) {
      if (runs() && (await this.#try(sinceNs, signal))) waitMs = againMs;
      await clock.sleep(waitMs, signal).catch(() => {});
    }
  }

  /** One protection until its end. True where it began. */
  async #try(sinceNs: number, signal: AbortSignal): Promise<boolean> {
    const { clock, log, runs } = this.parts;
    try {
      return await this.#protect(signal);
    } catch (error) {
      if (signal.aborted) return false;
      if (!(error instanceof HoldfastError) || error.code === "bug") throw error;
      if (error.code === "gdb.timeout") this.#timeoutMs = Math.min(this.#timeoutMs * 2, requestTimeoutMsMax);
      log("info", "program.unreachable", { program: this.name, why: explain(error) });
      const late = clock.monotonicNs() - sinceNs > kitPatienceMs * 1e6;
      if (late && runs()) this.#tellOnce(whyUnguarded(this.parts.guest, error));
      return false;
    }
  }

  /** @throws GdbError, ProgramError, BinaryError */
  async #protect(signal: AbortSignal): Promise<boolean> {
    const { section, vsockSocket, clock, log } = this.parts;
    await using transport = await openSocket(vsockSocket, { port: stubPort, signal });
    await using client = await GdbClient.open(transport, { clock, log, signal, requestTimeoutMs: this.#timeoutMs });
    const readFile = (path: string): Promise<Uint8Array | null> => client.readFile(path, signal);
    const pid = await findProgram(section, () => client.processes(signal), readFile);
    if (pid === null) {
      const wanted = section.unit ?? section.process;
      this.#tellOnce(`${this.name} is not guarded: no process of ${wanted} runs in ${this.parts.guest}`);
      return false;
    }
    await client.attach(pid, { stopAll: false, signal });
    await using connections = await ConnectionList.open(vsockSocket, log, signal);
    let end: LaneEnd;
    do {
      // A program that has replaced itself by another is the same process: the stub keeps it, and its code is read anew.
      const watch = await this.#open(client, pid, connections);
      end = await this.#guard(watch, client, pid, signal);
      this.#tellEnd(end, pid);
    } while (end.kind === "replaced");
    return true;
  }

  async #open(client: GdbClient, pid: number, connections: ConnectionList | null): Promise<GuestProgramWatch> {
    const { clock, log, storage } = this.parts;
    const { nextFaultId } = storage;
    return await GuestProgramWatch.open({
      workload: this.name,
      pid,
      client,
      images: this.parts.images,
      clock,
      log,
      nextFaultId,
      connections,
    });
  }

  async #guard(watch: GuestProgramWatch, client: GdbClient, pid: number, signal: AbortSignal): Promise<LaneEnd> {
    const { storage, notices, rescues, clock, section, log } = this.parts;
    await using tasks = new TaskGroup();
    let alive = true;
    const { name } = this;
    const stuck = (why: string): void => log("warn", "lock.stuck", { program: name, why });
    const present = () => (watch.isReporting ? null : { watch: watch.locks, client });
    const locks = lockKeeperOf({ name, clock, storage, notices, stuck }, present, true);
    const life = {
      isAlive: () => alive,
      threadState: (tid: number) => watch.threadState(tid),
      timesBlocked: (tid: number) => watch.timesBlocked(tid),
      isWaiting: (tid: number) => watch.isWaiting(tid),
      leftovers: (sinceNs: number) => ({ waiters: locks.waitersLeft(), released: locks.releasedSince(sinceNs) }),
      isTorn: (report: FaultReport, decision: Decision, released: boolean) => watch.isTorn(report, decision, released),
      unserved: (tid: number, excused: Excused, ended: AbortSignal) => watch.unserved(tid, excused, ended),
    };
    const probes = section.probes.map((word) => parseProbe(word));
    const limits = {
      get probationMs() {
        return defaultProbation.probationMs * watch.slowness;
      },
      quietMs: defaultProbation.quietMs,
    };
    const probation = new Probation(life, probes, limits, this.#trials, tasks, clock, (outcome, report, decision) => {
      storage.outcome(outcome);
      notices.outcome(outcome);
      if (decision.edit.kind !== "deliver") rescues.judged(outcome, report, decision, watch.program);
    });
    tasks.start((ended) => watch.learn(ended));
    tasks.start((ended) => watch.followTrials(ended));
    tasks.start((ended) => watch.prepare(ended));
    tasks.start((ended) => locks.run(ended));
    const hangs = hangsOf(section);
    startHangKeeper({ name, clock, hangs, storage, log }, tasks, () => (watch.isReporting ? null : { watch, client }));
    const workload = this.#workload(watch, probation, locks);
    tasks.start((ended) => this.#announce(watch, workload, pid, ended));
    // Also where a look fails the lane ends only between two faults: a stub that goes away hands a pending signal on.
    const letGo = AbortSignal.any([signal, tasks.signal]);
    const laneEnd = await this.#lane(pid, workload, client, letGo);
    const end = laneEnd.kind === "letGo" && !signal.aborted ? await lostBy(tasks) : laneEnd;
    alive = end.kind === "letGo";
    if (end.kind === "ended") probation.programEnded(end.signal ?? `exit code ${end.code}`, end.code);
    return end;
  }

  #workload(watch: GuestProgramWatch, probation: Probation, locks: LockKeeper): Workload {
    const { storage, notices, clock, section, suppression } = this.parts;
    const { name } = this;
    const usual = policyOf(section);
    return {
      name,
      clock,
      get policy() {
        return suppression.policyOf(name, usual);
      },
      watch: {
        report: async (stop) => {
          const { report, control } = await watch.report(stop);
          return { report: sited(report), control };
        },
      },
      storage,
      trials: this.#trials,
      probation,
      locks,
      notices,
    };
  }

  /** An earlier supervisor has left nothing unfinished: its stub let go of the program when it died. */
  #lane(pid: number, workload: Workload, client: GdbClient, letGo: AbortSignal): Promise<LaneEnd> {
    return runLane({ pid, workload, client, unfinished: () => null, letGo, release: () => client.detach() });
  }

  async #announce(watch: GuestProgramWatch, workload: Workload, pid: number, signal: AbortSignal): Promise<void> {
    const serving = await watch.untilServing(servingPatienceMs, signal);
    const round = rehearsalFor(workload);
    await watch.rehearse(rehearsalRounds, (report) => round(sited(report)), signal);
    if (signal.aborted) return;
    this.#told = "";
    const { storage, notices, rescues, guest } = this.parts;
    storage.event("guard.protected", this.name, { pid, guest, ...watch.program });
    rescues.adopted(this.name, watch.program);
    storage.event("guard.started", this.name, { pid, guest, serving });
    const threads = watch.threadCount;
    notices.tell({ event: "guarding", workload: this.name, pid, threads, attached: true, serving });
  }

  #tellEnd(end: LaneEnd, pid: number): void {
    const { storage, notices } = this.parts;
    storage.event(`guard.${end.kind}`, this.name, { pid, ...end });
    if (end.kind === "ended") {
      notices.tell({ event: "exit", workload: this.name, code: end.code, signal: end.signal });
    } else if (end.kind !== "letGo" && end.kind !== "replaced") {
      notices.tell({ event: "unguarded", workload: this.name, pid, reason: end.why });
    }
  }

  #tellOnce(text: string): void {
    if (text === this.#told) return;
    this.#told = text;
    this.parts.storage.event("guard.waiting", this.name, { why: text });
    this.parts.notices.tell({ event: "warning", workload: this.name, text });
  }
}

/** A look that failed means that the stub is lost, like a lane that ended. */
async function lostBy(tasks: TaskGroup): Promise<LaneEnd> {
  try {
    return await tasks.failed;
  } catch (error) {
    return { kind: "stubLost", why: explain(error) };
  }
}

function whyUnguarded(guest: string, error: HoldfastError): string {
  if (error.code !== "gdb.closed") return `its guest ${guest} cannot be looked into: ${explain(error)}`;
  return `nothing answers on vsock port ${stubPort} of guest ${guest}: install the guest kit in it (vm/guest-kit/README.md)`;
}
