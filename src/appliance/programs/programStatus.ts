// SPDX-License-Identifier: Apache-2.0
/**
 * One program as others see it. Gets its lane; gives plain data, times as wall clock in ms.
 */
import { readStatus } from "#monitor/processes.ts";
import { attemptsInWindow } from "../restart.ts";
import type { ProgramLane } from "./programLane.ts";
import type { LastFault } from "./programNotices.ts";
import type { ProgramPhase } from "./supervision.ts";

export type ProgramStatus = {
  readonly name: string;
  readonly phase: ProgramPhase["kind"];
  readonly why: string | null;
  readonly pid: number | null;
  /** It was seen waiting for work. */
  readonly serves: boolean;
  /** A fault would be met now. */
  readonly guarded: boolean;
  /** It was released for another debugger. */
  readonly released: boolean;
  /** Guarded processes that it has forked. */
  readonly children: number;
  /** Automatic restarts within the window, and how many it may have. */
  readonly attempts: number;
  readonly attemptsMax: number;
  readonly lastFault: LastFault | null;
  readonly runDirectory: string;
};

export function statusOf(lane: ProgramLane): ProgramStatus {
  const { state, life, parts } = lane;
  const { phase, attempts } = state;
  const pid = life?.program.pid ?? null;
  return {
    name: lane.name,
    phase: phase.kind,
    why: "why" in phase ? phase.why : null,
    pid,
    serves: phase.kind === "running" && phase.serves,
    guarded: pid !== null && life?.isReleased === false && (readStatus(pid)?.tracerPid ?? 0) !== 0,
    released: life?.isReleased === true,
    children: life?.childCount ?? 0,
    attempts: attemptsInWindow(attempts, parts.clock.wallMs(), parts.restart).length,
    attemptsMax: parts.restart.attemptsMax,
    lastFault: parts.told.lastFault,
    runDirectory: parts.runDirectory,
  };
}
