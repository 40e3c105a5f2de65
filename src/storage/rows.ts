// SPDX-License-Identifier: Apache-2.0
/**
 * Rows of the journal, as plain data. Gets the nouns of the fault path; gives rows for the writer and reads their heads back.
 *
 * `head` is small JSON and enough for a list and for the history; `body` is the whole report and plan, compressed by the
 * writer. Ids: a fault's own; `FAULT.N` for an intent; `FAULT.N=` for its outcome; so all rows of one fault are one range.
 */
import { parseJson, toJson } from "#bytes.ts";
import type {
  Decision,
  Edit,
  FaultId,
  FaultReport,
  FaultSignal,
  Outcome,
  PastTrial,
  Plan,
  Rung,
  Site,
  TrialId,
} from "#fault.ts";
import { splitTrial } from "./faultId.ts";
import type { IntentSlot, OutcomeSlot, Slot } from "./slot.ts";

/** The first four are entries, in the order of their commits; the last two are kept by name, newest value only. */
export type RowKind = "fault" | "intent" | "outcome" | "event" | "learned" | "window";

export type JournalRow = {
  readonly kind: RowKind;
  readonly id: string;
  readonly atMs: number;
  /** True for an intent that waits for its outcome. */
  readonly open: boolean;
  readonly head: string;
  readonly body: string | null;
};

/** What a list shows of a fault. */
export type FaultHead = {
  readonly workload: string;
  readonly pid: number;
  readonly tid: number;
  readonly threadName: string;
  readonly signal: FaultSignal;
  readonly site: Site;
  /** Symbol of frame 0, null where there is none or the report was lost. */
  readonly symbol: string | null;
};
export type FaultBody = { readonly report: FaultReport; readonly plan: Plan };
export type IntentHead = { readonly decision: Decision; readonly site: Site; readonly tid: number };
/** What the decision looked at; kept apart, since the history is read from the heads of many intents. */
export type IntentBody = { readonly past: readonly PastTrial[] };
export type OutcomeHead = Outcome;
/** Something that happened and is no fault: started, exited, stub lost … */
export type EventHead = { readonly event: string; readonly workload: string; readonly facts: unknown };

/** The id of the outcome row of a trial. */
export const outcomeRowId = (trial: TrialId): string => `${trial}=`;
/** Ids from `first` up to and not including `after` are the rows of a fault. */
export const faultRange = (fault: FaultId): { first: string; after: string } => ({ first: fault, after: `${fault}/` });

export function faultRow(report: FaultReport, plan: Plan): JournalRow {
  const { workload, pid, tid, threadName, signal, site } = report;
  const head: FaultHead = { workload, pid, tid, threadName, signal, site, symbol: report.frames[0]?.symbol ?? null };
  const body: FaultBody = { report, plan };
  return { kind: "fault", id: report.id, atMs: report.atMs, open: false, head: toJson(head), body: toJson(body) };
}

export function intentRow(report: FaultReport, decision: Decision, atMs: number): JournalRow {
  return intentRowOf({ decision, site: report.site, tid: report.tid }, atMs);
}

export function outcomeRow(outcome: Outcome, atMs: number): JournalRow {
  return { kind: "outcome", id: outcomeRowId(outcome.trial), atMs, open: false, head: toJson(outcome), body: null };
}

export function eventRow(id: string, head: EventHead, atMs: number): JournalRow {
  return { kind: "event", id, atMs, open: false, head: toJson(head), body: null };
}

/** The rows that a slot stands for when its own rows were never committed: short form, no report. */
export function rowsOfSlot(slot: Slot): readonly JournalRow[] {
  // A trial whose id was cut or is none cannot be settled later, so it is left out.
  const fault = splitTrial(slot.trial)?.fault;
  if (fault === undefined) return [];
  return slot.kind === "intent" ? rowsOfIntent(slot, fault) : [outcomeRow(outcomeOf(slot, fault), slot.atMs)];
}

const interruptedEvidence = "interrupted: the supervisor ended before the verdict";

/** The outcome of a trial whose supervisor died before the verdict. */
export function interruptedOutcome(trial: TrialId, edit: Edit): Outcome | null {
  const split = splitTrial(trial);
  if (split === null) return null;
  return {
    fault: split.fault,
    trial,
    rung: rungOf(edit),
    verdict: "failed",
    evidence: [interruptedEvidence],
    stopUs: 0,
    probationMs: 0,
    session: null,
  };
}

export function pastTrial(intent: IntentHead, atMs: number, outcome: Outcome | null): PastTrial {
  const { trial, key, edit } = intent.decision;
  return {
    trial,
    site: intent.site,
    tid: intent.tid,
    key,
    rung: rungOf(edit),
    atMs,
    verdict: outcome?.verdict ?? null,
    session: outcome?.session ?? null,
    veteran: false,
    ...(outcome?.evidence[0] === interruptedEvidence ? { interrupted: true } : {}),
  };
}

/** The rung that an edit is; a signal that is delivered leads to a restart. */
export function rungOf(edit: Edit): Rung {
  switch (edit.kind) {
    case "abandon":
      return edit.rung;
    case "neutralise":
    case "mend":
      return "neutralise";
    case "park":
    case "leave":
      return "park";
    case "deliver":
      return "restart";
  }
}

/** A record of experience (`learned`) or an open restore window, kept by name; null removes it. */
export function namedRow(kind: "learned" | "window", name: string, value: unknown, atMs: number): JournalRow {
  return { kind, id: name, atMs, open: false, head: value === null ? removed : toJson(value), body: null };
}
/** The head that removes a named row. */
export const removed = "null";

/** A head, or null where the row is damaged. */
export function readHeadOrNull<Head>(head: string): Head | null {
  try {
    return readHead<Head>(head);
  } catch {
    // A flipped bit inside a text passes SQLite's own checks. One row is lost, the others are not.
    return null;
  }
}

/** Reads a head that we wrote. @throws SyntaxError where the row is damaged. */
export const readHead = <Head>(head: string): Head => parseJson(head) as Head;

function intentRowOf(head: IntentHead, atMs: number): JournalRow {
  const { past, ...decision } = head.decision;
  // A signal that was let through is over once it is delivered: there is no verdict to wait for.
  const open = decision.edit.kind !== "deliver";
  const body = past.length === 0 ? null : toJson({ past } satisfies IntentBody);
  return {
    kind: "intent",
    id: decision.trial,
    atMs,
    open,
    head: toJson({ ...head, decision: { ...decision, past: [] } }),
    body,
  };
}

function rowsOfIntent(slot: IntentSlot, id: FaultId): JournalRow[] {
  const { trial, workload, pid, tid, signal, site, edit, key } = slot;
  const fault: FaultHead = { workload, pid, tid, threadName: "", signal, site, symbol: null };
  const reason = "from the ring: the supervisor ended before the report was written";
  const decision: Decision = {
    trial,
    edit,
    key,
    session: null,
    cut: false,
    reason,
    past: [],
  };
  return [
    { kind: "fault", id, atMs: slot.atMs, open: false, head: toJson(fault), body: null },
    intentRowOf({ decision, site, tid }, slot.atMs),
  ];
}

function outcomeOf(slot: OutcomeSlot, fault: FaultId): Outcome {
  const { trial, rung, verdict, stopUs, probationMs } = slot;
  return { fault, trial, rung, verdict, evidence: [slot.evidence], stopUs, probationMs, session: null };
}
