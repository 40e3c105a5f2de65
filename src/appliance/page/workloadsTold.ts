// SPDX-License-Identifier: Apache-2.0
/**
 * Guests and programs of a run as the page shows them, their checkpoints, and the verbs that can be asked for each now. Gets
 * the lanes; gives plain data.
 */
import type { Checkpoints } from "#restoration/checkpoints.ts";
import type { CheckpointTold, Known, WorkloadState, WorkloadTold } from "#status/told.ts";
import type { VerbName } from "#verbs.ts";
import type { GuestStatus, Guests } from "../guests/guests.ts";
import { type ProgramStatus, statusOf } from "../programs/programStatus.ts";
import type { Programs } from "../programs/programs.ts";
import type { SuppressionSwitch } from "../suppressionSwitch.ts";

/** Checkpoints that are shown, newest first. */
const checkpointsMax = 100;

const guestStates: Readonly<{ [Phase in GuestStatus["phase"]]: WorkloadState }> = {
  down: "down",
  error: "error",
  waiting: "restarting",
  starting: "starting",
  resetting: "restarting",
  booting: "starting",
  up: "up",
  paused: "paused",
  ending: "restarting",
};
const programStates: Readonly<{ [Phase in ProgramStatus["phase"]]: WorkloadState }> = {
  stopped: "down",
  error: "error",
  starting: "starting",
  running: "unguarded",
  ending: "restarting",
  backoff: "restarting",
};

export class WorkloadsTold {
  readonly #since = new Map<string, { state: WorkloadState; atMs: number }>();

  constructor(
    private readonly guests: Guests,
    private readonly programs: Programs,
    private readonly stored: Pick<Checkpoints, "list">,
    private readonly suppression: SuppressionSwitch,
  ) {}

  collect(nowMs: number): WorkloadTold[] {
    const guests = this.guests.names.map((name) => this.#guest(this.guests.status(name), nowMs));
    const programs = this.programs.names.map((name) => this.#program(statusOf(this.programs.lane(name)), nowMs));
    return [...guests, ...programs];
  }

  checkpoints(): Known<readonly CheckpointTold[]> {
    const newest = this.stored.list.slice(0, checkpointsMax);
    const value = newest.map(({ id, guest, atMs, addedBytes, state }) => ({
      ...{ id, guest, atMs, bytes: addedBytes },
      good: state === "good",
    }));
    return { known: true, value };
  }

  #guest(status: GuestStatus, nowMs: number): WorkloadTold {
    const { name, phase, why, pid, attempts, attemptsMax, programs, arriving, standby, lastGood } = status;
    const state = guestStates[phase];
    const kept: VerbName[] = [
      ...(state === "up" && arriving === null ? (["guest.checkpoint"] as const) : []),
      ...(lastGood === null || arriving !== null ? [] : (["guest.restore"] as const)),
    ];
    return {
      ...{ name, kind: "guest", state, pid, threads: null, why, programs, arriving, standby },
      ...this.#standing(name, state, state === "up", nowMs, kept),
      restarts: { used: attempts, max: attemptsMax },
    };
  }

  #program(status: ProgramStatus, nowMs: number): WorkloadTold {
    const { name, phase, guarded, released, serves, pid, attempts, attemptsMax } = status;
    const state = guarded ? (serves ? "guarded" : "starting") : programStates[phase];
    const why = released ? "it was released for another debugger" : status.why;
    return {
      ...{ name, kind: "program", state, pid, threads: null, programs: [], arriving: null, standby: null },
      ...this.#standing(name, state, guarded, nowMs, []),
      why: why ?? (state === "unguarded" ? "no debugger stub holds it now" : null),
      restarts: { used: attempts, max: attemptsMax },
    };
  }

  /** Since when, protected or not, and what can be asked for. */
  #standing(name: string, state: WorkloadState, guarded: boolean, nowMs: number, more: readonly VerbName[]) {
    const suppressionOff = this.suppression.isOff(name);
    const verbs: VerbName[] = [...verbsIn(state), ...more, suppressionOff ? "suppression.on" : "suppression.off"];
    return {
      sinceMs: this.#sinceOf(name, state, nowMs),
      ...{ protected: guarded && !suppressionOff, suppressionOff, verbs },
    };
  }

  #sinceOf(name: string, state: WorkloadState, nowMs: number): number {
    const known = this.#since.get(name);
    const atMs = known?.state === state ? known.atMs : nowMs;
    this.#since.set(name, { state, atMs });
    return atMs;
  }
}

const verbsIn = (state: WorkloadState): VerbName[] =>
  state === "down" || state === "error" ? ["workload.release"] : ["workload.restart", "workload.hold"];
