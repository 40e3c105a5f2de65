// SPDX-License-Identifier: Apache-2.0
/**
 * `holdfast guard`: one program in a lane of its own, from its start to its last end. Gets where it comes from and the
 * requests of whoever started us; gives how it ended, or null where it was let go.
 *
 * A person sits before it, so nothing is remembered: a program whose restarts are used up ends the guard.
 */

import type { ProgramEnd } from "../guardedProgram.ts";
import type { Requests } from "../requests.ts";
import { ProgramLane, type ProgramLaneParts } from "./programLane.ts";
import { ProgramNotices } from "./programNotices.ts";

const probeEveryMs = 1_000;
const probeFailuresMax = 3;
const stopMs = 10_000;

export type ForegroundParts = Omit<
  ProgramLaneParts,
  "health" | "stopMs" | "start" | "told" | "remembered" | "lives"
> & {
  readonly requests: Requests;
  /** Called with the lane, for orders that come from elsewhere. */
  readonly opened?: ((lane: ProgramLane) => void) | undefined;
};

/** @throws GdbError, ProgramError, StorageError where it could not be started or guarded */
export async function guardInForeground(parts: ForegroundParts): Promise<ProgramEnd | null> {
  const { name, notices, storage, clock, probes, requests } = parts;
  await using lane: ProgramLane = new ProgramLane({
    ...parts,
    health: { probes, probeEveryMs, probeFailuresMax },
    stopMs,
    start: true,
    remembered: false,
    told: new ProgramNotices(name, notices, storage, clock, true),
    lives: (program) => requests.serve(program, () => lane.asked("it was asked to end")),
  });
  parts.opened?.(lane);
  const over = (): Promise<void> =>
    lane.until(({ phase }) => phase.kind === "stopped" || phase.kind === "error", requests.letGo);
  await Promise.race([lane.open().then(over), lane.failed]).catch((error: unknown) => {
    if (!requests.letGo.aborted) throw error;
  });
  if (requests.letGo.aborted) return null;
  if (lane.lastError !== null) throw lane.lastError;
  return lane.lastEnd;
}
