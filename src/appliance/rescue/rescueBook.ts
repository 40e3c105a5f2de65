// SPDX-License-Identifier: Apache-2.0
/**
 * All that was learned, in memory: read at start, written behind every verdict, so that no decision waits for a disk.
 * Gets outcomes; gives what a decision is to know beyond the trials of the journal, and tells the fleet's side what is new.
 * One for each storage. Limit: 1,024 sites; the one that has not faulted for longest goes first.
 */
import type { Clock } from "#clock.ts";
import type { Decision, FaultReport, Outcome, PastTrial } from "#fault.ts";
import type { Storage } from "#storage/storage.ts";
import type { Experience } from "../trials.ts";
import {
  asTrials,
  forgotten,
  type ProgramIdentity,
  recordId,
  type SiteRecord,
  unknownProgram,
  withImport,
  withTrial,
} from "./rescueRecord.ts";
import { readRecord, recordsMax } from "./rescueText.ts";

/** In front of a record's id, its name among all records of experience. */
export const rescuePrefix = "rescue/";

/** A verdict of this box, and what is known of its site now. */
export type Lesson = {
  readonly record: SiteRecord;
  readonly outcome: Outcome;
  readonly report: FaultReport;
  readonly decision: Decision;
};

/** What other boxes have learned, as far as it may be used here. */
export interface FleetExperience {
  /** From memory; called while a thread is stopped. */
  hintsFor(report: FaultReport): readonly PastTrial[];
  /** A program is guarded from now on. */
  adopted(workload: string, program: ProgramIdentity): void;
  learned(lesson: Lesson): void;
}

export class RescueBook implements Experience {
  readonly #records = new Map<string, SiteRecord>();
  readonly #adopted = new Map<string, ProgramIdentity>();
  #fleet: FleetExperience | null = null;

  constructor(
    private readonly storage: Pick<Storage, "learned" | "learn">,
    private readonly clock: Clock,
  ) {
    for (const record of readRecords(storage.learned)) this.#records.set(recordId(record), record);
  }

  /** What other boxes have learned comes from there from now on. */
  join(fleet: FleetExperience): void {
    this.#fleet = fleet;
    for (const [workload, program] of this.#adopted) fleet.adopted(workload, program);
  }

  /** Newest fault first; those that were forgotten are left out. */
  get records(): readonly SiteRecord[] {
    return shown([...this.#records.values()]);
  }

  at(report: FaultReport): { readonly forgottenMs: number; readonly told: readonly PastTrial[] } {
    const here = [...this.#records.values()].filter(({ site }) => site.fault === report.site.fault);
    const told = [...here.flatMap(asTrials), ...(this.#fleet?.hintsFor(report) ?? [])];
    return { forgottenMs: Math.max(0, ...here.map(({ forgottenMs }) => forgottenMs)), told };
  }

  adopted(workload: string, program: ProgramIdentity): void {
    this.#adopted.set(workload, program);
    this.#fleet?.adopted(workload, program);
  }

  judged(outcome: Outcome, report: FaultReport, decision: Decision, program: ProgramIdentity | null): void {
    const { rung, verdict } = outcome;
    const id = recordId(report);
    const trial = { key: decision.key, rung, verdict, atMs: report.atMs };
    const record = withTrial(this.#records.get(id) ?? null, report, program ?? unknownProgram, trial);
    this.#keep(id, record);
    this.#fleet?.learned({ record, outcome, report, decision });
  }

  import(records: readonly SiteRecord[]): void {
    for (const record of records) {
      const id = recordId(record);
      this.#keep(id, withImport(this.#records.get(id) ?? null, record));
    }
  }

  forget(ids: readonly string[] | "all"): void {
    for (const id of ids === "all" ? [...this.#records.keys()] : ids) {
      const known = this.#records.get(id);
      if (known !== undefined) this.#keep(id, forgotten(known, this.clock.wallMs()));
    }
  }

  #keep(id: string, record: SiteRecord): void {
    this.#records.set(id, record);
    this.storage.learn(`${rescuePrefix}${id}`, record);
    if (this.#records.size <= recordsMax) return;
    const [oldest] = [...this.#records].sort(([, a], [, b]) => a.lastFaultMs - b.lastFaultMs);
    this.#records.delete(oldest![0]);
    this.storage.learn(`${rescuePrefix}${oldest![0]}`, null);
  }
}

/** The rescue records among all records of experience; damaged ones are left out. */
export function readRecords(learned: ReadonlyMap<string, unknown>): SiteRecord[] {
  return [...learned].flatMap(([name, value]) => {
    const record = name.startsWith(rescuePrefix) ? readRecord(value) : null;
    return record !== null && name === rescuePrefix + recordId(record) ? [record] : [];
  });
}

/** Those with something in them, newest fault first. */
export const shown = (records: readonly SiteRecord[]): SiteRecord[] =>
  records.filter(({ edits }) => edits.length > 0).sort((a, b) => b.lastFaultMs - a.lastFaultMs);
