// SPDX-License-Identifier: Apache-2.0
/**
 * Ends a stub that does not do its part: one that answers no more, and one that keeps the end of its program from us.
 * Either is then lost, and the guard goes on from there.
 *
 * Costs one packet every three seconds, and stops nothing. Limits: `answerMs` for an answer.
 */
import { type Clock, deadline, sleepToBeat } from "#clock.ts";
import { GdbError } from "#errors.ts";
import { isAlive } from "#monitor/processes.ts";
import type { Protection } from "./protection.ts";

const lookMs = 1000;
/** The stub is asked for something every so many looks: all stubs at the same one, so that their answers wake us once. */
const looksPerQuestion = 3;
const answerMs = 5000;

/** Looks until the signal aborts, or the stub was ended. */
export async function keepStubHonest(
  protection: Protection,
  pid: number,
  clock: Clock,
  signal: AbortSignal,
): Promise<void> {
  for (;;) {
    await sleepToBeat(clock, lookMs, signal);
    const look = Math.round(clock.monotonicNs() / 1e6 / lookMs);
    if (!isAlive(pid)) {
      // The stub is told first, and may be about to tell us.
      await clock.sleep(lookMs, signal);
      return await protection.endStub();
    }
    if (look % looksPerQuestion === 0 && !(await answers(protection, signal))) return await protection.endStub();
  }
}

async function answers({ client }: Protection, signal: AbortSignal): Promise<boolean> {
  const late = (): GdbError => new GdbError("gdb.timeout", `no answer within ${answerMs} ms`);
  using limit = deadline(answerMs, late, signal);
  try {
    await client.answers(limit.signal);
    return true;
  } catch {
    return signal.aborted;
  }
}
