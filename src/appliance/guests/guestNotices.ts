// SPDX-License-Identifier: Apache-2.0
/**
 * What happens to a guest, told twice: to whoever watches our output, and to the journal.
 *
 * Guest-level faults are journal events, not fault rows: they have no stopped thread and no registers.
 */
import type { Clock } from "#clock.ts";
import type { PageWaits } from "#restoration/pageWaits.ts";
import type { RestoreProgress } from "#restoration/restore.ts";
import type { Prepared } from "#restoration/runRestore.ts";
import type { Storage } from "#storage/storage.ts";
import type { Version } from "#vm/version.ts";
import type { CheckpointReport } from "../checkpointNotices.ts";
import type { Notices } from "../notices.ts";
import type { GuestFault } from "./guestFault.ts";
import type { GuestEffect, Phase } from "./supervision.ts";

/** Phases that people want to hear of. */
const told: readonly Phase["kind"][] = ["starting", "up", "paused", "down", "error"];

export class GuestNotices {
  #faults = 0;
  #lastFault: { readonly kind: string; readonly why: string; readonly atMs: number } | null = null;

  constructor(
    private readonly guest: string,
    private readonly notices: Pick<Notices, "tell">,
    private readonly storage: Pick<Storage, "event">,
    private readonly clock: Clock,
  ) {}

  get lastFault(): { readonly kind: string; readonly why: string; readonly atMs: number } | null {
    return this.#lastFault;
  }

  /** How many there were in this life of the supervisor. */
  get faults(): number {
    return this.#faults;
  }

  phase(phase: Phase, pid: number | null): void {
    if (!told.includes(phase.kind)) return;
    const why = "why" in phase ? phase.why : null;
    this.storage.event(`guest.${phase.kind}`, this.guest, { pid, why });
    this.notices.tell({ event: "guest", workload: this.guest, phase: phase.kind, pid: why === null ? pid : null, why });
  }

  fault(fault: GuestFault, act: string): void {
    this.#faults += 1;
    this.#lastFault = { ...fault, atMs: this.clock.wallMs() };
    this.storage.event("guest.fault", this.guest, { ...fault, act });
    this.notices.tell({ event: "guestFault", workload: this.guest, kind: fault.kind, why: fault.why, act });
  }

  outcome({ rung, verdict, why, downMs }: Extract<GuestEffect, { kind: "outcome" }>): void {
    this.storage.event("guest.outcome", this.guest, { rung, verdict, why, downMs });
    this.notices.tell({ event: "guestOutcome", workload: this.guest, rung, verdict, downMs, why });
  }

  takenOver(pid: number): void {
    this.storage.event("guest.takenOver", this.guest, { pid });
    this.notices.tell({ event: "guest", workload: this.guest, phase: "found running", pid, why: null });
  }

  checkpointed({ id, heldMs, addedPages, addedBytes }: CheckpointReport): void {
    const stillMs = Math.round(heldMs * 10) / 10;
    this.storage.event("guest.checkpointed", this.guest, { id, stillMs, addedPages, addedBytes });
    this.notices.tell({ event: "checkpoint", workload: this.guest, id, stillMs, addedPages, addedBytes });
  }

  noCheckpoint(why: string): void {
    this.storage.event("guest.noCheckpoint", this.guest, { why });
    this.#warn(`guest ${this.guest}: no checkpoint was taken: ${why}`);
  }

  restoring(checkpoint: string, { mode, contentBytes, prefetchedBytes }: Prepared): void {
    this.storage.event("guest.restoring", this.guest, { checkpoint, mode, contentBytes, prefetchedBytes });
    this.notices.tell({ event: "restore", workload: this.guest, checkpoint, mode, contentBytes, prefetchedBytes });
  }

  restored(progress: RestoreProgress, waits: PageWaits): void {
    this.storage.event("guest.restored", this.guest, progress);
    this.notices.tell({ event: "restored", workload: this.guest, ...progress, waits });
  }

  badCheckpoint(checkpoint: string, why: string): void {
    this.storage.event("guest.badCheckpoint", this.guest, { checkpoint, why });
    this.#warn(`guest ${this.guest}: checkpoint ${checkpoint} is damaged and will not be used again: ${why}`);
  }

  lostPages(checkpoint: string, why: string): void {
    this.storage.event("guest.restoreLost", this.guest, { checkpoint, why });
    this.#warn(`guest ${this.guest}: its memory could not be brought from ${checkpoint}, so it was ended: ${why}`);
  }

  /** A version whose behaviour we have not read line by line runs guests all the same. */
  known(version: Version): void {
    if (version.kind === "known") return;
    const text = `guest ${this.guest}: Cloud Hypervisor ${version.name} is not one we know; checkpoints are off for it`;
    this.storage.event("guest.version", this.guest, version);
    this.notices.tell({ event: "warning", workload: this.guest, text });
  }

  unconfined(why: string): void {
    const text = `guest ${this.guest}: Cloud Hypervisor is not confined by Landlock: ${why} (it wants Linux 6.2 or later)`;
    this.storage.event("guest.unconfined", this.guest, { why });
    this.notices.tell({ event: "warning", workload: this.guest, text });
  }

  #warn(text: string): void {
    this.notices.tell({ event: "warning", workload: this.guest, text });
  }
}
