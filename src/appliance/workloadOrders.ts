// SPDX-License-Identifier: Apache-2.0
/**
 * Who carries out an order to a workload: the lanes of a supervisor, or the one program that somebody guards by hand. Gets
 * the lanes; gives orders by name. What cannot be done is refused with the reason.
 */
import { ConfigError, ProgramError } from "#errors.ts";
import type { CheckpointReport } from "./checkpointNotices.ts";
import type { GuestCommand } from "./guests/supervision.ts";
import type { ProgramCommand } from "./programs/supervision.ts";
import type { WorkloadOrders } from "./verbs.ts";

interface GuestLanes {
  readonly names: readonly string[];
  lane(name: string): {
    command(command: GuestCommand, signal: AbortSignal): Promise<void>;
    restore(checkpoint: string | null, signal: AbortSignal): Promise<void>;
  };
  checkpoint(name: string, signal: AbortSignal): Promise<CheckpointReport>;
}

export function guestOrders(guests: GuestLanes): WorkloadOrders {
  const order = (command: GuestCommand) => (name: string, signal: AbortSignal) =>
    guests.lane(name).command(command, signal);
  return {
    get names() {
      return guests.names;
    },
    restart: order("reset"),
    hold: order("stop"),
    release: order("start"),
    checkpoint: async (name, signal) => {
      const { id, heldMs } = await guests.checkpoint(name, signal);
      return { checkpoint: id, held_ms: heldMs };
    },
    restore: (name, checkpoint, signal) => guests.lane(name).restore(checkpoint, signal),
  };
}

interface ProgramLanes {
  readonly names: readonly string[];
  lane(name: string): ProgramOrders;
}

export function programOrders(programs: ProgramLanes): WorkloadOrders {
  const order = (command: ProgramCommand) => (name: string, signal: AbortSignal) =>
    programs.lane(name).command(command, signal);
  return {
    get names() {
      return programs.names;
    },
    restart: order("restart"),
    hold: order("stop"),
    release: order("start"),
  };
}

/** Orders to whichever of the two knows the name; the first one refuses what nobody knows, and has the checkpoints. */
export function eitherOrders(first: WorkloadOrders, second: WorkloadOrders): WorkloadOrders {
  const whose = (name: string): WorkloadOrders => (second.names.includes(name) ? second : first);
  return {
    get names() {
      return [...first.names, ...second.names];
    },
    restart: (name, signal) => whose(name).restart(name, signal),
    hold: (name, signal) => whose(name).hold(name, signal),
    release: (name, signal) => whose(name).release(name, signal),
    ...(first.checkpoint === undefined ? {} : { checkpoint: first.checkpoint }),
    ...(first.restore === undefined ? {} : { restore: first.restore }),
  };
}

interface ProgramOrders {
  command(command: ProgramCommand, signal: AbortSignal): Promise<void>;
}

/** The program of `holdfast guard`: it can be restarted; held, the guard itself would end. */
export class ForegroundOrders implements WorkloadOrders {
  #lane: ProgramOrders | null = null;

  constructor(private readonly workload: string) {}

  readonly serve = (lane: ProgramOrders): void => {
    this.#lane = lane;
  };

  get names(): readonly string[] {
    return [this.workload];
  }

  async restart(name: string, signal: AbortSignal): Promise<void> {
    this.#requireKnown(name);
    if (this.#lane === null) throw new ProgramError("program.gone", `${name} is not looked after yet`);
    await this.#lane.command("restart", signal);
  }

  hold = (name: string): Promise<never> => this.#refuse(name);
  release = (name: string): Promise<never> => this.#refuse(name);

  async #refuse(name: string): Promise<never> {
    this.#requireKnown(name);
    const advice = "make it a [[program]] of holdfast run for that";
    throw new ProgramError("program.unsupported", `holdfast guard ends with ${name} and cannot hold it; ${advice}`);
  }

  #requireKnown(name: string): void {
    if (name === this.workload) return;
    throw new ConfigError(
      "config.argument",
      `there is no workload ${JSON.stringify(name)}; there is: ${this.workload}`,
    );
  }
}
