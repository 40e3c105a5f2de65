// SPDX-License-Identifier: Apache-2.0
/**
 * The trials remembered in memory, so that no decision waits for a disk. Fed by the journal at start and by probation.
 *
 * Limits: 16 trials a site, 4,096 in all; open ones are never dropped. Times are wall-clock ms.
 */
import type { Decision, FaultReport, PastTrial, Rung, Session, Spent, TrialId, Verdict } from "#fault.ts";
import { workOf } from "#suppression/site.ts";
import { ActBudget } from "./actBudget.ts";
import { isConsequence, payers } from "./aftermath.ts";

const trialsPerSiteMax = 16;
const trialsMax = 4096;
const sitesMax = 1024;
/** A neutralised instruction counts against the budget for this long. */
const neutraliseWindowMs = 3_600_000;

/** What is known of a fault's site beyond the trials of the journal. Asked while a thread is stopped: from memory. */
export interface Experience {
  /** `told`: as past trials. Trials up to `forgottenMs` count no more, as somebody has said. */
  at(report: FaultReport): { readonly forgottenMs: number; readonly told: readonly PastTrial[] };
}

const noExperience: Experience = { at: () => ({ forgottenMs: 0, told: [] }) };

export class Trials {
  /** In the order of their times; by site too, because a stopped thread waits for the answer. */
  #trials: PastTrial[];
  readonly #bySite = new Map<string, PastTrial[]>();
  /** Those that matter beyond their site: open, or neutralised. Few. */
  #elsewhere: PastTrial[] = [];
  /** Who was connected when a site faulted first in this run, the culprit of then left out. */
  readonly #firstSeen = new Map<string, ReadonlySet<string>>();
  readonly #budget: ActBudget;

  constructor(
    history: readonly PastTrial[],
    private readonly experience: Experience = noExperience,
    windowMs?: number,
  ) {
    this.#budget = new ActBudget(windowMs);
    this.#trials = [...history].sort((a, b) => a.atMs - b.atMs).slice(-trialsMax);
    this.#sortOut();
  }

  /** Trials that a decision on `report` may look at: its site, its thread's open ones, and what the budget counts. */
  relevantTo(report: FaultReport): PastTrial[] {
    const { forgottenMs, told } = this.experience.at(report);
    const { fault } = report.site;
    const isHere = (past: PastTrial): boolean => past.site.fault === fault;
    const here = (this.#bySite.get(fault) ?? []).filter((past) => past.verdict === null || past.atMs > forgottenMs);
    const elsewhere = this.#elsewhere.filter(
      (past) =>
        !here.includes(past) &&
        ((past.verdict === null && past.tid === report.tid) ||
          (isNeutralised(past) && past.atMs > report.atMs - neutraliseWindowMs)),
    );
    const own = elsewhere.length === 0 ? here : [...here, ...elsewhere].sort((a, b) => a.atMs - b.atMs);
    // Of what the journal still tells trial by trial, the record is only the sum.
    const summed = new Set(own.flatMap((past) => (isHere(past) && past.verdict !== null ? [past.key] : [])));
    return [...told.filter((past) => past.learnedBy !== undefined || !summed.has(past.key)), ...own];
  }

  open(report: FaultReport, decision: Decision, rung: Rung): PastTrial {
    const { session } = decision;
    const trial: PastTrial = {
      trial: decision.trial,
      site: report.site,
      tid: report.tid,
      key: decision.key,
      rung,
      atMs: report.atMs,
      verdict: null,
      session,
      veteran: session !== null && this.#isVeteran(report, session),
      work: workOf(report),
      consequence: isConsequence(report, this.#trials),
    };
    this.#budget.note(report.site.fault, report.atMs);
    this.#trials.push(trial);
    this.#trim(report.site.fault);
    this.#sortOut();
    return trial;
  }

  spentOn({ site, atMs }: FaultReport): Spent {
    return this.#budget.spent(site.fault, atMs);
  }

  close(id: TrialId, verdict: Verdict): void {
    this.#trials = this.#trials.map((past) => (past.trial === id ? { ...past, verdict } : past));
    this.#sortOut();
  }

  /** Done after an act, never before one. */
  #sortOut(): void {
    this.#bySite.clear();
    for (const past of this.#trials) {
      const here = this.#bySite.get(past.site.fault);
      if (here === undefined) this.#bySite.set(past.site.fault, [past]);
      else here.push(past);
    }
    this.#elsewhere = this.#trials.filter((past) => past.verdict === null || isNeutralised(past));
  }

  /** How many clients have paid so far for what an earlier act left behind at the place of this trial. */
  payersOf(trial: PastTrial): number {
    return payers(trial, this.#trials);
  }

  #isVeteran(report: FaultReport, session: Session): boolean {
    const known = this.#firstSeen.get(report.site.fault);
    if (known !== undefined) return known.has(session.peer);
    if (this.#firstSeen.size >= sitesMax) this.#firstSeen.delete(this.#firstSeen.keys().next().value!);
    const others = report.sessions.filter((other) => other.fd !== session.fd).map((other) => other.peer);
    this.#firstSeen.set(report.site.fault, new Set(others));
    return false;
  }

  #trim(site: string): void {
    const here = this.#trials.filter((past) => past.site.fault === site && past.verdict !== null);
    const excess = new Set(here.slice(0, Math.max(0, here.length - trialsPerSiteMax)));
    if (this.#trials.length > trialsMax) {
      const oldest = this.#trials.find((past) => past.verdict !== null);
      if (oldest !== undefined) excess.add(oldest);
    }
    if (excess.size > 0) this.#trials = this.#trials.filter((past) => !excess.has(past));
  }
}

const isNeutralised = ({ rung, key }: PastTrial): boolean => rung === "neutralise" && key !== "mend";
