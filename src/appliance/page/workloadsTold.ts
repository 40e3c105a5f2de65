// SPDX-License-Identifier: Apache-2.0
/**
 * Guests and programs of a run as the page shows them, their checkpoints, and the verbs that it may ask for them. Gets the
 * lanes and who carries out orders; gives plain data, and performs restart, hold, release and checkpoint.
 */
import { explainInLine } from "#errors.ts";
import type { Checkpoints } from "#restoration/checkpoints.ts";
import type { CheckpointTold, Known, WorkloadState, WorkloadTold } from "#status/told.ts";
import type { VerbName, VerbRequest, VerbResult } from "#verbs.ts";
import type { GuestStatus, Guests } from "../guests/guests.ts";
import { type ProgramStatus, statusOf } from "../programs/programStatus.ts";
import type { Programs } from "../programs/programs.ts";
import type { WorkloadOrders } from "../verbs.ts";

/** Checkpoints that are shown, newest first. */
const checkpointsMax = 100;

const guestStates: Readonly<{ [Phase in GuestStatus["phase"]]: WorkloadState }> = {
  down: "down",
  held: "held",
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
  starting: "starting",
  running: "unguarded",
  ending: "restarting",
  backoff: "restarting",
  error: "held",
};

export class WorkloadsTold {
  readonly #since = new Map<string, { state: WorkloadState; atMs: number }>();

  constructor(
    private readonly guests: Guests,
    private readonly programs: Programs,
    private readonly stored: Pick<Checkpoints, "list">,
    private readonly orders: WorkloadOrders,
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

  async perform({ verb, args, deadlineMs }: VerbRequest, nowMs: number): Promise<VerbResult> {
    const name = args.workload;
    const act = this.#act(verb);
    if (act === null || typeof name !== "string" || !this.orders.names.includes(name)) {
      return { kind: "failed", why: `${verb} cannot be asked for here` };
    }
    try {
      await act(name, AbortSignal.timeout(Math.max(0, deadlineMs - nowMs)));
      return { kind: "succeeded" };
    } catch (error) {
      return { kind: "failed", why: explainInLine(error) };
    }
  }

  #act(verb: VerbName): ((name: string, signal: AbortSignal) => Promise<unknown>) | null {
    const { orders } = this;
    switch (verb) {
      case "workload.restart":
        return orders.restart;
      case "workload.hold":
        return orders.hold;
      case "workload.release":
        return orders.release;
      case "guest.checkpoint":
        return orders.checkpoint ?? null;
      default:
        return null;
    }
  }

  #guest({ name, phase, why, pid, attempts, attemptsMax, programs }: GuestStatus, nowMs: number): WorkloadTold {
    const state = guestStates[phase];
    return {
      ...{ name, kind: "guest", state, pid, threads: null, why, programs },
      sinceMs: this.#sinceOf(name, state, nowMs),
      protected: state === "up",
      restarts: { used: attempts, max: attemptsMax },
      verbs: [...verbsIn(state), ...(state === "up" ? (["guest.checkpoint"] as const) : [])],
    };
  }

  #program(status: ProgramStatus, nowMs: number): WorkloadTold {
    const { name, phase, guarded, released, serves, pid, attempts, attemptsMax } = status;
    const state = guarded ? (serves ? "guarded" : "starting") : programStates[phase];
    const why = released ? "it was released for another debugger" : status.why;
    return {
      ...{ name, kind: "program", state, pid, threads: null, programs: [] },
      why: why ?? (state === "unguarded" ? "no debugger stub holds it now" : null),
      sinceMs: this.#sinceOf(name, state, nowMs),
      protected: guarded,
      restarts: { used: attempts, max: attemptsMax },
      verbs: verbsIn(state),
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
  state === "down" || state === "held" ? ["workload.release"] : ["workload.restart", "workload.hold"];
