// SPDX-License-Identifier: Apache-2.0
/**
 * What happens to a program as a whole, told twice: to whoever watches our output, and to the journal.
 *
 * `quiet` leaves out what a guard that runs one program says already: that it starts and runs.
 */
import type { Clock } from "#clock.ts";
import type { Storage } from "#storage/storage.ts";
import type { Notices } from "../notices.ts";
import type { ProgramFault } from "./programFault.ts";
import type { ProgramSource } from "./programSource.ts";
import type { ProgramEffect, ProgramPhase } from "./supervision.ts";

export type LastFault = ProgramFault & { readonly atMs: number };

export class ProgramNotices {
  #lastFault: LastFault | null = null;

  constructor(
    private readonly name: string,
    private readonly notices: Pick<Notices, "tell">,
    private readonly storage: Pick<Storage, "event">,
    private readonly clock: Clock,
    private readonly owner: ProgramSource["owner"],
    private readonly quiet = false,
  ) {}

  get lastFault(): LastFault | null {
    return this.#lastFault;
  }

  phase(phase: ProgramPhase, pid: number | null): void {
    const why = "why" in phase ? phase.why : null;
    this.storage.event(`program.${phase.kind}`, this.name, { pid, why });
    if (this.quiet && phase.kind !== "error") return;
    this.notices.tell({
      event: "program",
      workload: this.name,
      phase: phase.kind,
      pid: why === null ? pid : null,
      why,
    });
  }

  effect(effect: ProgramEffect): void {
    const { name: workload } = this;
    if (effect.kind === "fault") {
      const { fault } = effect;
      const act = effect.act === "stayDown" && this.owner === "systemd" ? "left" : effect.act;
      this.#lastFault = { ...fault, atMs: this.clock.wallMs() };
      this.storage.event("program.fault", workload, { ...fault, act });
      if (this.quiet && act === "stayDown") return;
      this.notices.tell({ event: "programFault", workload, kind: fault.kind, why: fault.why, act });
    }
    if (effect.kind === "outcome") {
      const { verdict, why, downMs } = effect;
      this.storage.event("program.outcome", workload, { rung: "restart", verdict, why, downMs });
      this.notices.tell({ event: "programOutcome", workload, rung: "restart", verdict, downMs, why });
    }
  }

  takenOver(pid: number): void {
    this.storage.event("program.takenOver", this.name, { pid });
    if (!this.quiet)
      this.notices.tell({ event: "program", workload: this.name, phase: "found running", pid, why: null });
  }
}
