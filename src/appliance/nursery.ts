// SPDX-License-Identifier: Apache-2.0
/**
 * The first moments of processes that a program forks for one connection each: whoever connects may kill at once, before
 * such a process has a stub of its own. Gets the stub of the program; gives a workload for each process that it holds.
 *
 *     born ─▶ held by the program's stub ─▶ let go, and attached to by a stub of its own at once
 *                └─a fault─▶ its own watch and probation, in the lane of the program
 *
 * Fork events stop parent and child for a round trip each time, and a parent for as long as no supervisor is there. So they
 * are asked for only once a child of this kind was seen, and not for programs that fork seldom or for themselves.
 */
import type { Clock } from "#clock.ts";
import { explain, GdbError, HoldfastError } from "#errors.ts";
import type { Decision, FaultReport, Outcome } from "#fault.ts";
import type { Log } from "#log.ts";
import type { GdbClient } from "#monitor/gdb/client.ts";
import type { StopEvent } from "#monitor/gdb/stopEvent.ts";
import { isAlive, readStatus } from "#monitor/processes.ts";
import type { Watch } from "#monitor/watch.ts";
import type { TaskGroup } from "#tasks.ts";
import { defaultProbation, Probation, type SignsOfLife } from "./probation.ts";
import type { Workload } from "./workload.ts";

/** What a guard lends to the processes that its stub holds. */
export type StubOfParent = {
  readonly client: GdbClient;
  readonly tasks: TaskGroup;
  readonly clock: Clock;
  readonly log: Log;
  readonly watchOf: (pid: number) => Watch;
  readonly workloadOf: (watch: Watch) => Workload;
  readonly judged: (outcome: Outcome, report: FaultReport, decision: Decision, watch: Watch) => void;
};

type Newborn = { readonly watch: Watch; readonly probation: Probation; readonly workload: Workload };

/** A fault with its probation takes no longer. */
const faultMs = 3000;
const lookMs = 20;

export class Nursery {
  #stub: StubOfParent | null = null;
  #isWanted = false;
  /** By process id; null as long as nothing has happened to it. */
  readonly #held = new Map<number, Newborn | null>();

  /** The program has this stub from now on. Those that an earlier one held run free, and are found as any child is. */
  async begin(stub: StubOfParent): Promise<void> {
    this.end();
    this.#stub = stub;
    if (this.#isWanted) await this.#ask(stub);
  }

  end(): void {
    for (const pid of [...this.#held.keys()]) this.#forget(pid);
    this.#stub = null;
  }

  /** A child was seen that is there for one connection: from now on all are held from birth. */
  async follow(): Promise<void> {
    if (this.#isWanted) return;
    this.#isWanted = true;
    if (this.#stub !== null) await this.#ask(this.#stub);
  }

  get isWanted(): boolean {
    return this.#isWanted;
  }

  born(pid: number): void {
    this.#held.set(pid, null);
  }

  /** The workload of a held process, for a fault of its own. @throws ProgramError, BinaryError where it cannot be read */
  workloadOf(pid: number): Workload {
    const newborn = this.#held.get(pid) ?? this.#meet(pid);
    this.#held.set(pid, newborn);
    return newborn.workload;
  }

  /** What happened to a held process, other than a signal. */
  take(event: Extract<StopEvent, { kind: "exited" | "killed" | "exec" }>): void {
    const probation = this.#held.get(event.pid)?.probation;
    if (event.kind === "exited") probation?.programEnded(`exit code ${event.code}`, event.code);
    if (event.kind === "killed") probation?.programEnded(event.signal, null);
    this.#forget(event.pid);
    if (event.kind === "exec") this.born(event.pid);
  }

  /** Lets go of a process, so that a stub of its own may attach. Resolves also where it is not held. */
  async letGo(pid: number): Promise<void> {
    const stub = this.#stub;
    if (stub === null || !this.#held.has(pid)) return;
    // One that has faulted stays where it is until that is over: mostly it is gone then.
    const endNs = stub.clock.monotonicNs() + faultMs * 1e6;
    while (this.#held.get(pid) != null && stub.clock.monotonicNs() < endNs) await stub.clock.sleep(lookMs);
    this.#forget(pid);
    try {
      await stub.client.release(pid);
    } catch (error) {
      // It has ended, or the stub has and everybody is free.
      if (!(error instanceof GdbError)) throw error;
      stub.log("debug", "nursery.letGo", { pid, why: explain(error) });
    }
  }

  async letGoAll(): Promise<void> {
    for (const pid of [...this.#held.keys()]) await this.letGo(pid);
  }

  async #ask({ client, log }: StubOfParent): Promise<void> {
    try {
      await client.followForks();
    } catch (error) {
      // The stub is lost: its successor is asked anew.
      if (!(error instanceof GdbError)) throw error;
      log("debug", "nursery.unfollowed", { why: explain(error) });
    }
  }

  #meet(pid: number): Newborn {
    const stub = this.#stub;
    if (stub === null) throw new GdbError("gdb.closed", "the program has no stub");
    const watch = stub.watchOf(pid);
    // What an act needs is found at once; the rest is known from the others, whose code is the same.
    stub.tasks.start((signal) => watch.prepare(signal).catch(goneMeanwhile));
    const probation = new Probation(
      lifeOf(pid, watch),
      [],
      defaultProbation,
      stub.workloadOf(watch).trials,
      stub.tasks,
      stub.clock,
      (outcome, report, decision) => stub.judged(outcome, report, decision, watch),
    );
    return { watch, probation, workload: { ...stub.workloadOf(watch), probation, locks: { acted: () => {} } } };
  }

  #forget(pid: number): void {
    this.#held.get(pid)?.watch[Symbol.dispose]();
    this.#held.delete(pid);
  }
}

/** The process ends while its code is read. */
function goneMeanwhile(error: unknown): void {
  if (!(error instanceof HoldfastError) || error.code === "bug") throw error;
}

const lifeOf = (pid: number, watch: Watch): SignsOfLife => ({
  isAlive: () => isAlive(pid),
  threadState: (tid) => watch.threadState(tid),
  timesBlocked: (tid) => readStatus(pid, tid)?.voluntarySwitches ?? null,
  isWaiting: (tid) => watch.isWaiting(tid),
  leftovers: () => ({ waiters: 0, released: 0 }),
  unserved: async () => null,
  isTorn: (report, decision, released) => watch.isTorn(report, decision, released),
});
