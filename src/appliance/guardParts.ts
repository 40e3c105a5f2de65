// SPDX-License-Identifier: Apache-2.0
/**
 * What a guard is made of, what it gives at its end, and what it leaves behind where a bug of ours ends it.
 */
import type { Clock } from "#clock.ts";
import type { Log } from "#log.ts";
import type { HangLimits } from "#monitor/busyStretches.ts";
import type { WireTrace } from "#monitor/gdb/trace.ts";
import type { Probe } from "#monitor/probes.ts";
import type { SharedCode } from "#monitor/sharedCode.ts";
import type { Storage } from "#storage/storage.ts";
import type { Policy } from "#suppression/plan.ts";
import type { Portrait } from "./daemon.ts";
import type { Family, GuardNews } from "./family.ts";
import type { GuardedProgram, ProgramEnd } from "./guardedProgram.ts";
import type { LaneWatch } from "./laneWatch.ts";
import type { Notices } from "./notices.ts";
import type { Nursery } from "./nursery.ts";
import type { RescueBook } from "./rescue/rescueBook.ts";
import type { Settling } from "./settling.ts";
import type { SuppressionSwitch } from "./suppressionSwitch.ts";

export type GuardParts = {
  readonly name: string;
  readonly program: GuardedProgram;
  readonly runDirectory: string;
  readonly storage: Storage;
  readonly rescues: RescueBook;
  readonly notices: Notices;
  readonly probes: readonly Probe[];
  readonly policy: Policy;
  readonly suppression: SuppressionSwitch;
  /** null: hangs are nobody's business. */
  readonly hangs: HangLimits | null;
  readonly clock: Clock;
  readonly log: Log;
  readonly trace?: WireTrace | undefined;
  /** Aborts when the guard is to let go of the program and leave it running. */
  readonly letGo: AbortSignal;
  /** Called with what matters to whoever decides on the program as a whole. */
  readonly news?: ((news: GuardNews) => void) | undefined;
  /** A process that it has forked and that may be what it is from its end on. */
  readonly heir?: ((portrait: Portrait) => number | null) | undefined;
  /** What a process shares with the one that forked it; absent for the first of a program. */
  readonly family?: Family | undefined;
  /** Holds what the program forks, until it has a stub of its own; absent where nobody looks after its children. */
  readonly nursery?: Nursery | undefined;
  /** Called right before the attach: whoever holds the process lets go of it. */
  readonly claim?: (() => Promise<void>) | undefined;
  /** Code that is read once for all programs; left out: for this one alone. */
  readonly code?: SharedCode | undefined;
  /** Hears of the work of each lane. */
  readonly lanes?: LaneWatch | undefined;
  /** Of the whole supervisor; left out: of this one guard. */
  readonly settling?: Settling | undefined;
};

/** `successor`: the process in which a program that went to the background lives on. */
export type GuardEnd = ProgramEnd & { readonly successor: number | null };

/** Says what a bug of ours leaves behind. */
export function tellBug({
  notices,
  name,
  program,
}: Pick<GuardParts, "notices" | "name"> & { program: GuardedProgram | null }): void {
  if (program === null) return;
  const reason = `a bug of Holdfast ends its supervisor; it runs on, but a fault stops its thread until guard is started anew with --name ${name}`;
  notices.tell({ event: "unguarded", workload: name, pid: program.pid, reason });
}
