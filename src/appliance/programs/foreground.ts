// SPDX-License-Identifier: Apache-2.0
/**
 * `holdfast guard`: one program in a lane of its own, from its start to its last end. Gets where it comes from and the
 * requests of whoever started us; gives how it ended, or null where it was let go.
 *
 * A person sits before it, so nothing is remembered: a program whose restarts are used up ends the guard.
 */

import { ConfigError, explain } from "#errors.ts";
import { openControl } from "../control.ts";
import type { ProgramEnd } from "../guardedProgram.ts";
import type { Requests } from "../requests.ts";
import { ProgramLane, type ProgramLaneParts } from "./programLane.ts";
import { ProgramNotices } from "./programNotices.ts";
import type { ProgramPhase } from "./supervision.ts";

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

/** A service that systemd owns comes back: it is over when we are told to let it go. */
const isOver: readonly ProgramPhase["kind"][] = ["stopped", "error"];

/** @throws GdbError, ProgramError, StorageError where it could not be started or guarded */
export async function guardInForeground(parts: ForegroundParts): Promise<ProgramEnd | null> {
  const { name, notices, storage, clock, probes, requests, source } = parts;
  await using lane: ProgramLane = new ProgramLane({
    ...parts,
    health: { probes, probeEveryMs, probeFailuresMax },
    stopMs,
    start: true,
    remembered: false,
    told: new ProgramNotices(name, notices, storage, clock, source.owner, true),
    lives: (program) => requests.serve(program, () => lane.asked("it was asked to end")),
  });
  parts.opened?.(lane);
  await using _door = openDoor(parts.runDirectory, lane);
  const over = (): Promise<void> =>
    lane.until(({ phase }) => source.owner !== "systemd" && isOver.includes(phase.kind), requests.letGo);
  await Promise.race([lane.open().then(over), lane.failed]).catch((error: unknown) => {
    if (!requests.letGo.aborted) throw error;
  });
  if (requests.letGo.aborted) return null;
  if (lane.lastError !== null) throw lane.lastError;
  return lane.lastEnd;
}

/** The door for `holdfast release` and `holdfast program`; where none can be opened, guarding goes on without. */
function openDoor(runDirectory: string, lane: ProgramLane): AsyncDisposable {
  const find = (name: string): ProgramLane => {
    if (name === lane.name) return lane;
    throw new ConfigError("config.argument", `this guard is of ${lane.name}, not of ${JSON.stringify(name)}`);
  };
  try {
    return openControl(runDirectory, null, { names: [lane.name], lane: find });
  } catch (error) {
    // A path longer than a socket's may be, or a run directory that is full.
    lane.parts.log("warn", "control.closed", { why: explain(error) });
    return { [Symbol.asyncDispose]: async () => {} };
  }
}
