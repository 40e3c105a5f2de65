// SPDX-License-Identifier: Apache-2.0
/**
 * The right to change and resume one thread in one stop of it: over as soon as it has been resumed, by whomever.
 *
 * Gets the stop and how it is read and ended; writes registers only together with the resume.
 */
import type { ThreadControl } from "#fault.ts";
import { deliverAction } from "./inspection.ts";
import { stale } from "./refusals.ts";
import type { Stopped } from "./session.ts";

export type StopControl = Pick<ThreadControl, "pid" | "tid" | "writeRegisters" | "resume" | "deliver">;

export type StopParts = {
  /** Whether the thread still stands in this stop. */
  readonly isNow: () => boolean;
  /** The bytes of `g`. */
  readonly raw: () => Promise<Uint8Array>;
  readonly resume: (action: string, raw: Uint8Array | null, changes: ReadonlyMap<number, bigint>) => Promise<void>;
};

/** Each call throws GdbError "gdb.stale" where the stop is over. */
export function stopControl(stop: Stopped, { isNow, raw, resume }: StopParts): StopControl {
  const { pid, tid } = stop.thread;
  const changes = new Map<number, bigint>();
  const check = (): void => {
    if (!isNow()) throw stale(tid);
  };
  const go = async (action: string): Promise<void> => {
    check();
    const before = changes.size === 0 ? null : await raw();
    check();
    await resume(action, before, changes);
  };
  return {
    pid,
    tid,
    writeRegisters: async (more) => {
      check();
      for (const [register, value] of more) changes.set(register, value);
    },
    resume: () => go("c"),
    deliver: () => go(deliverAction(stop)),
  };
}
