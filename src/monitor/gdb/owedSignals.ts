// SPDX-License-Identifier: Apache-2.0
/**
 * Signals that came while a stopped thread was made to run one instruction. gdbserver then reports a signal in place of the
 * step, also one that it is told to pass on, and forgets it: it is owed to the thread, and goes with it when it runs again.
 *
 * Gets steps, gives the action of a resume. What the kernel told of the signal beside its number is lost: a handler sees one
 * sent by another process. Source: gdbserver 13, linux-low.cc (a signal is never passed on where the last resume was a step);
 * ptrace(2), "Signal-delivery-stop".
 */
import { deliverAction, type Inspection } from "./inspection.ts";
import { passedSignals } from "./signals.ts";

/** Timers come again: after so many interruptions of one step, it has failed. */
const interruptionsMax = 16;

export class OwedSignals {
  readonly #owed = new Map<number, number[]>();

  isOwed(tid: number): boolean {
    return this.#owed.has(tid);
  }

  /** `c`, or `C` and a signal that was owed and is not any more. */
  action(tid: number): string {
    const [gdbSignal = 0, ...others] = this.#owed.get(tid) ?? [];
    if (others.length > 0) this.#owed.set(tid, others);
    else this.#owed.delete(tid);
    return deliverAction({ gdbSignal });
  }

  /** For a thread that has ended: its number may be another's. */
  forget(tid: number): void {
    this.#owed.delete(tid);
  }

  /**
   * Steps again until the instruction at `pc` has run, and gives the stop after it. `step` gives a stop, GDB's number of its
   * signal, and where the thread then stands.
   */
  async step(tid: number, pc: bigint | undefined, step: () => Promise<Stepped>): Promise<Inspection> {
    for (let interruptions = 0; ; interruptions += 1) {
      const { inspection, gdbSignal, at } = await step();
      if (!passedSignals.includes(gdbSignal)) return inspection;
      this.#owe(tid, gdbSignal);
      // It came after the instruction: the trap would have been the next stop, and is none of the program's.
      if (at !== pc) return { ...inspection, signal: "SIGTRAP" };
      if (interruptions >= interruptionsMax) return inspection;
    }
  }

  /** Of one that is pending already there is no second, as in the kernel. */
  #owe(tid: number, gdbSignal: number): void {
    const before = this.#owed.get(tid) ?? [];
    if (!before.includes(gdbSignal)) this.#owed.set(tid, [...before, gdbSignal]);
  }
}

type Stepped = {
  readonly inspection: Inspection;
  readonly gdbSignal: number;
  readonly at: bigint | null;
};
