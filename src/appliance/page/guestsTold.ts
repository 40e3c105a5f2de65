// SPDX-License-Identifier: Apache-2.0
/**
 * Guests as the page shows them, and the verbs that it may ask for them. Gets the guests of a run; gives plain data, and
 * performs `workload.restart`, `workload.hold` and `workload.release`.
 */

import { explainInLine } from "#errors.ts";
import type { WorkloadState, WorkloadTold } from "#status/told.ts";
import type { VerbName, VerbRequest, VerbResult } from "#verbs.ts";
import type { GuestStatus, Guests } from "../guests/guests.ts";
import type { GuestCommand } from "../guests/supervision.ts";

const states: Readonly<{ [Phase in GuestStatus["phase"]]: WorkloadState }> = {
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

const commands: Readonly<Partial<{ [Name in VerbName]: GuestCommand }>> = {
  "workload.restart": "reset",
  "workload.hold": "stop",
  "workload.release": "start",
};

export class GuestsTold {
  readonly #since = new Map<string, { state: WorkloadState; atMs: number }>();

  constructor(private readonly guests: Guests) {}

  collect(nowMs: number): WorkloadTold[] {
    return this.guests.names.map((name) => this.#one(this.guests.status(name), nowMs));
  }

  async perform({ verb, args, deadlineMs }: VerbRequest, nowMs: number): Promise<VerbResult> {
    const command = commands[verb];
    const name = args.workload;
    if (command === undefined || typeof name !== "string" || !this.guests.names.includes(name)) {
      return { kind: "failed", why: `${verb} cannot be asked for here` };
    }
    try {
      await this.guests.lane(name).command(command, AbortSignal.timeout(Math.max(0, deadlineMs - nowMs)));
      return { kind: "succeeded" };
    } catch (error) {
      return { kind: "failed", why: explainInLine(error) };
    }
  }

  #one({ name, phase, why, pid, attempts, attemptsMax, programs }: GuestStatus, nowMs: number): WorkloadTold {
    const state = states[phase];
    const known = this.#since.get(name);
    const sinceMs = known?.state === state ? known.atMs : nowMs;
    this.#since.set(name, { state, atMs: sinceMs });
    return {
      name,
      kind: "guest",
      state,
      sinceMs,
      pid,
      threads: null,
      protected: state === "up",
      why,
      restarts: { used: attempts, max: attemptsMax },
      programs,
      verbs: state === "down" || state === "held" ? ["workload.release"] : ["workload.restart", "workload.hold"],
    };
  }
}
