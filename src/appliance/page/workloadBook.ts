// SPDX-License-Identifier: Apache-2.0
/**
 * How each program is, learned from what is told of it anyway. Gets notices as they go out; gives what the page is told.
 *
 * Nothing is asked and nothing waits: a notice changes a few words in memory. At most `programsMax` programs are kept.
 */
import type { Clock } from "#clock.ts";
import type { WorkloadState, WorkloadTold } from "#status/told.ts";
import type { Notice } from "../notices.ts";

const programsMax = 1_024;
const warningsMax = 50;

type Warning = { readonly atMs: number; readonly workload: string; readonly text: string };

export class WorkloadBook {
  readonly #programs = new Map<string, WorkloadTold>();
  /** Of the certificate of the status page; null without one. */
  pageFingerprint: string | null = null;
  #warnings: Warning[] = [];

  constructor(private readonly clock: Clock) {}

  get programs(): readonly WorkloadTold[] {
    return [...this.#programs.values()];
  }
  get warnings(): readonly Warning[] {
    return this.#warnings;
  }

  /** A program that is about to be guarded. */
  expect(name: string, pid: number | null): void {
    this.#put(name, { state: "starting", pid, protected: false, why: "it is being attached to" });
  }

  hear(notice: Notice): void {
    const { workload } = notice;
    switch (notice.event) {
      case "guarding":
        this.#put(workload, { state: "guarded", pid: notice.pid, threads: notice.threads, protected: true, why: null });
        break;
      case "unguarded":
        this.#put(workload, { state: "unguarded", pid: notice.pid, protected: false, why: notice.reason });
        break;
      case "program":
        this.#phase(workload, notice.phase, notice.pid, notice.why);
        break;
      case "exit": {
        const how = notice.signal === null ? `exit code ${notice.code ?? "not known"}` : notice.signal;
        this.#put(workload, { state: "ended", pid: null, threads: null, protected: false, why: `it ended: ${how}` });
        break;
      }
      case "status":
        this.pageFingerprint = notice.fingerprint;
        break;
      case "warning":
        this.#warnings = [...this.#warnings, { atMs: this.clock.wallMs(), workload, text: notice.text }].slice(
          -warningsMax,
        );
        break;
    }
  }

  /** A program's phases; that it runs says nothing yet of whether it is guarded. */
  #phase(name: string, phase: string, pid: number | null, why: string | null): void {
    const state = phases[phase];
    if (state === undefined) return;
    if (state === "starting" && this.#programs.get(name)?.state === "guarded") return;
    this.#put(name, {
      state,
      pid,
      protected: false,
      why: why ?? (state === "starting" ? "it is being started" : null),
    });
  }

  #put(name: string, change: Partial<WorkloadTold> & Pick<WorkloadTold, "state">): void {
    const known = this.#programs.get(name);
    if (known === undefined && this.#programs.size >= programsMax) return;
    const nowMs = this.clock.wallMs();
    const sinceMs = known !== undefined && known.state === change.state ? known.sinceMs : nowMs;
    this.#programs.set(name, { ...(known ?? fresh(name)), ...change, sinceMs });
  }
}

const phases: Readonly<Record<string, WorkloadState>> = {
  stopped: "down",
  error: "error",
  starting: "starting",
  running: "starting",
  ending: "restarting",
  backoff: "restarting",
};

/** A workload of which nothing is known yet but that it begins. */
export const fresh = (name: string): WorkloadTold => ({
  name,
  kind: "program",
  state: "starting",
  sinceMs: 0,
  pid: null,
  threads: null,
  protected: false,
  why: null,
  restarts: null,
  arriving: null,
  standby: null,
  suppressionOff: false,
  programs: [],
  verbs: [],
});
