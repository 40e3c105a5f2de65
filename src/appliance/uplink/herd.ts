// SPDX-License-Identifier: Apache-2.0
/**
 * Between what this box learns and what its fleet knows. Gets lessons of the rescue book and hints of telemetry; gives hints
 * as past trials, from memory, and tells the fleet what was learned, what a hint was worth here, and which ones failed.
 *
 * A hint changes the order of the planner's own edits and nothing else. In `watch` mode none is given; what it would have
 * changed is written down instead.
 */
import type { Clock } from "#clock.ts";
import type { FaultReport, PastTrial, TrialId, Verdict } from "#fault.ts";
import type { Storage } from "#storage/storage.ts";
import { defaultPolicy, keyOf, plan } from "#suppression/plan.ts";
import { wireSignal } from "#telemetry/events.ts";
import type { FleetHint } from "#telemetry/fleetRecords.ts";
import type { Telemetry } from "#telemetry/telemetry.ts";
import { decide } from "../decide.ts";
import type { FleetExperience, Lesson } from "../rescue/rescueBook.ts";
import type { EditRecord, ProgramIdentity, SiteRecord } from "../rescue/rescueRecord.ts";
import { editOf, placeText, readEdit, readPlace } from "./wirePlaces.ts";

const wireIsa = { x86_64: "x64", aarch64: "a64" } as const;

export type HerdOptions = {
  readonly telemetry: Telemetry;
  readonly mode: "off" | "watch" | "use";
  readonly storage: Pick<Storage, "event">;
  readonly clock: Clock;
  /** The programs guarded now, or their builds, have changed. */
  readonly changed: () => void;
};

type Hint = { readonly hint: FleetHint; readonly trial: PastTrial };

export class Herd implements FleetExperience {
  readonly #programs = new Map<string, ProgramIdentity>();
  /** By the place of the fault; made anew when records change, so that a fault only looks. */
  #hints = new Map<string, Hint[]>();

  constructor(private readonly options: HerdOptions) {}

  /** Programs that have been guarded, by workload. */
  get programs(): ReadonlyMap<string, ProgramIdentity> {
    return this.#programs;
  }

  /** Rescues of other boxes that are known for the programs guarded here, those that failed here among them. */
  get hintCount(): number {
    return [...this.#hints.values()].reduce((sum, hints) => sum + hints.length, 0);
  }

  adopted(workload: string, program: ProgramIdentity): void {
    this.#programs.set(workload, program);
    this.options.telemetry.follow([...new Set(this.#builds())]);
    this.#load();
    this.options.changed();
  }

  hintsFor(report: FaultReport): readonly PastTrial[] {
    return this.options.mode === "use" ? this.#fitting(report).map(({ trial }) => trial) : [];
  }

  learned(lesson: Lesson): void {
    const { record, report } = lesson;
    if (this.options.mode === "watch") this.#tellWhatWouldBe(lesson);
    for (const { hint, trial } of this.#fitting(report)) this.#weigh(lesson, hint, trial);
    this.tell(record);
  }

  /** What this box has learned, in its fleet's words; whether it is good enough to be published is judged there. */
  tell(record: SiteRecord): void {
    const own = ownWords(record);
    if (own !== null) this.options.telemetry.learned({ ...own, lastFaultMs: record.lastFaultMs });
  }

  /** Keeps the hints of each followed build as telemetry has them. */
  async run(signal: AbortSignal): Promise<void> {
    for await (const _ of this.options.telemetry.hintChanges(signal)) this.#load();
  }

  #builds(): string[] {
    return [...this.#programs.values()].flatMap(({ build }) => (build === "" ? [] : [build]));
  }

  #load(): void {
    const hints = new Map<string, Hint[]>();
    for (const build of new Set(this.#builds())) {
      for (const hint of this.options.telemetry.hints(build)) {
        const trial = asTrial(hint);
        if (trial !== null) hints.set(trial.site.fault, [...(hints.get(trial.site.fault) ?? []), { hint, trial }]);
      }
    }
    this.#hints = hints;
  }

  /** Those for this very fault that did not fail here. */
  #fitting(report: FaultReport): Hint[] {
    const { build } = this.#programs.get(report.workload) ?? { build: "" };
    const { site } = report;
    return (this.#hints.get(site.fault) ?? []).filter(
      ({ hint, trial }) =>
        hint.build === build &&
        hint.standing === "first" &&
        hint.signal === wireSignal(report.signal) &&
        trial.site.boundary === site.boundary,
    );
  }

  /** What a hint was worth: its edit was done, or there was none like it. */
  #weigh({ outcome, report, decision }: Lesson, hint: FleetHint, { key }: PastTrial): void {
    const { telemetry, mode } = this.options;
    const said = decision.past.filter((past) => past.key === key && past.verdict !== "failed" && past.verdict !== null);
    const ownProof = said.some(({ learnedBy }) => learnedBy === undefined);
    if (mode !== "use" || said.length === 0 || ownProof) return;
    let verdict: Verdict | "inapplicable" | null = null;
    if (decision.key === key) {
      verdict = outcome.verdict;
      telemetry.markUsed(outcome.trial);
    } else if (!keysOf(report).includes(key)) verdict = "inapplicable";
    if (verdict !== null) telemetry.noteOutcome(hint.build, hint.site, verdict);
  }

  #tellWhatWouldBe({ report, decision }: Lesson): void {
    const past = [...decision.past, ...this.#fitting(report).map(({ trial }) => trial)];
    if (past.length === decision.past.length) return;
    const other = decide(report, plan(report, past, defaultPolicy), past, defaultPolicy);
    if (other.key === decision.key) return;
    const facts = { fault: report.id, did: decision.key, would: other.key, why: other.reason };
    this.options.storage.event("herd.would", report.workload, facts);
  }
}

/** The time is that of no trial here: it never outdoes what this box has seen itself. */
function asTrial(hint: FleetHint): PastTrial | null {
  const edit = editOf(hint);
  if (edit === null) return null;
  const site = { fault: placeText(hint.fault), boundary: hint.boundary === null ? "" : placeText(hint.boundary) };
  return {
    ...{ trial: `fleet-${hint.author}-${hint.rev}` as TrialId, site, tid: 0, ...edit, atMs: 0, verdict: "clean" },
    ...{ session: null, veteran: false, learnedBy: `another box (key ${hint.author})` },
  };
}

/** What this box may say of a site: its own trials of the edit that works best. */
function ownWords(record: SiteRecord): Omit<Parameters<Telemetry["learned"]>[0], "lastFaultMs"> | null {
  const own = record.edits.filter(({ imported }) => !imported);
  const best = own.reduce<EditRecord | null>((a, b) => (a === null || worthOf(b) > worthOf(a) ? b : a), null);
  const fault = readPlace(record.site.fault);
  const boundary = readPlace(record.site.boundary);
  const edit = best === null ? null : readEdit(best.key);
  if (best === null || edit === null || fault === null || record.build === "") return null;
  if (boundary === null && record.site.boundary !== "") return null;
  const { clean, degraded, failed } = best;
  return {
    ...{ build: record.build, program: record.program, isa: wireIsa[record.architecture], fault, boundary },
    ...{ signal: wireSignal(record.signal), ...edit, clean, degraded, failed },
  };
}

/** The score of the contract, before it is made an integer. */
const worthOf = ({ clean, degraded, failed }: EditRecord): number =>
  (2 * clean + degraded) / (2 * (clean + degraded) + 8 * failed + 4);

function keysOf(report: FaultReport): string[] {
  const proposal = plan(report, [], defaultPolicy);
  return proposal.kind === "edits" ? proposal.edits.map((edit) => keyOf(report, edit)) : [];
}
