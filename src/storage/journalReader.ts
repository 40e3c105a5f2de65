// SPDX-License-Identifier: Apache-2.0
/**
 * Reads faults out of every journal below one state directory, while their supervisors write. Gets STATE; gives lists and
 * whole records, and says which journals could not be read.
 *
 * Read-only, and each call opens, reads and closes: no read transaction stays open. Rows come from files that anything may
 * have happened to, so what does not parse is a problem to report, not an exception.
 */
import { type Dirent, existsSync, readdirSync } from "node:fs";
import { basename, join } from "node:path";
import { parseJson, toJson } from "#bytes.ts";
import { explain, StorageError } from "#errors.ts";
import type { Decision, FaultId, FaultReport, Outcome, Plan, Rung, TrialId, Verdict } from "#fault.ts";
import { asStorageError, openReadOnly } from "./database.ts";
import { readBody } from "./journal.ts";
import {
  type FaultBody,
  type FaultHead,
  faultRange,
  type IntentBody,
  type IntentHead,
  readHead,
  readHeadOrNull,
  rungOf,
} from "./rows.ts";

/** Journals below one STATE that are looked at. */
const journalsMax = 1024;
const listLimitMax = 10_000;
const exportFormat = "holdfast.fault";
const exportVersion = 1;

export type TrialSummary = { readonly trial: TrialId; readonly rung: Rung; readonly verdict: Verdict | null };
export type FaultSummary = FaultHead & {
  readonly id: FaultId;
  /** Name of the guard, "" for the journal of STATE itself. */
  readonly guard: string;
  readonly atMs: number;
  readonly trials: readonly TrialSummary[];
  /** False where only the ring's short form is left. */
  readonly whole: boolean;
};

export type TrialRecord = {
  readonly trial: TrialId;
  readonly atMs: number;
  readonly decision: Decision;
  /** null while on probation. */
  readonly outcome: Outcome | null;
};
/** All that is known of one fault. `report` and `plan` are null where the supervisor died before it wrote them. */
export type FaultRecord = {
  readonly id: FaultId;
  readonly guard: string;
  readonly atMs: number;
  readonly head: FaultHead;
  readonly report: FaultReport | null;
  readonly plan: Plan | null;
  readonly trials: readonly TrialRecord[];
};
export type ReadProblem = { readonly path: string; readonly why: string };

type EntryRow = { id: string; kind: string; at_ms: number; head: string; body: Uint8Array | null };
type ListedRow = { id: string; at_ms: number; head: string; whole: number };

/** The newest faults, newest first, of all guards; only those older than `before` where it is given. */
export function listFaults(options: { stateDirectory: string; limit: number; before?: FaultId }): {
  faults: readonly FaultSummary[];
  problems: readonly ReadProblem[];
} {
  const limit = Math.max(0, Math.min(options.limit, listLimitMax));
  const problems: ReadProblem[] = [];
  const faults = journalsBelow(options.stateDirectory, problems).flatMap(({ path, guard }) =>
    attempt(path, problems, () => listJournal({ path, guard }, limit, options.before, problems), []),
  );
  faults.sort((a, b) => (a.id < b.id ? 1 : a.id > b.id ? -1 : 0));
  return { faults: faults.slice(0, limit), problems };
}

/**
 * One fault by its id, the beginning of its id, or its last part.
 * @throws StorageError storage.notFound where none or several match, or all that could be read is damaged
 */
export function readFault(stateDirectory: string, idOrPart: string): FaultRecord {
  const problems: ReadProblem[] = [];
  const places = journalsBelow(stateDirectory, problems);
  const found = places.flatMap((place) =>
    attempt(place.path, problems, () => findFaults(place.path, idOrPart).map((id) => ({ ...place, id })), []),
  );
  const exact = found.filter((match) => match.id === idOrPart);
  const [match, second] = exact.length > 0 ? exact : found;
  const asked = JSON.stringify(idOrPart.slice(0, 64));
  if (match === undefined) {
    const unread = problems.map((problem) => `; ${problem.path} could not be read: ${problem.why}`).join("");
    throw new StorageError("storage.notFound", `no fault ${asked} below ${stateDirectory}${unread}`);
  }
  if (second !== undefined && second.id !== match.id) {
    throw new StorageError(
      "storage.notFound",
      `${asked} names ${found.length} faults, such as ${match.id} and ${second.id}`,
    );
  }
  return readRecord(match.path, match.guard, match.id);
}

/** One JSON text that `readExport` (and `holdfast replay FILE`) reads. */
export function exportFault(record: FaultRecord): string {
  return `${toJson({ format: exportFormat, version: exportVersion, ...record }, 1)}\n`;
}

/** @throws StorageError storage.corrupt where the text is no export, storage.newer where a later release wrote it */
export function readExport(text: string): FaultRecord {
  let value: unknown;
  try {
    value = parseJson(text);
  } catch (cause) {
    throw new StorageError("storage.corrupt", "this is no exported fault: not JSON", {}, cause);
  }
  const { format, version, ...record } = (typeof value === "object" && value !== null ? value : {}) as Record<
    string,
    unknown
  >;
  if (format !== exportFormat || typeof version !== "number" || !Array.isArray(record.trials)) {
    throw new StorageError(
      "storage.corrupt",
      "this is no exported fault; make one with holdfast show ID --export FILE",
    );
  }
  if (version > exportVersion) {
    throw new StorageError("storage.newer", "this fault was exported by a later release", {
      version,
      known: exportVersion,
    });
  }
  return record as unknown as FaultRecord;
}

function journalsBelow(stateDirectory: string, problems: ReadProblem[]): { path: string; guard: string }[] {
  const guards = join(stateDirectory, "guards");
  let entries: Dirent[] = [];
  try {
    if (existsSync(guards)) entries = readdirSync(guards, { withFileTypes: true });
  } catch (error) {
    problems.push({ path: guards, why: explain(error) });
  }
  const directories = [
    stateDirectory,
    ...entries.filter((entry) => entry.isDirectory()).map(({ name }) => join(guards, name)),
  ];
  return directories
    .slice(0, journalsMax)
    .map((directory) => ({
      path: join(directory, "journal.db"),
      guard: directory === stateDirectory ? "" : basename(directory),
    }))
    .filter(({ path }) => existsSync(path));
}

function listJournal(
  { path, guard }: { path: string; guard: string },
  limit: number,
  before: FaultId | undefined,
  problems: ReadProblem[],
): FaultSummary[] {
  using database = openReadOnly(path);
  const rows = database
    .query<ListedRow, [string, number]>(
      `SELECT id, at_ms, head, body IS NOT NULL AS whole FROM entry
       WHERE kind = 'fault' AND id < ? ORDER BY n DESC LIMIT ?`,
    )
    .all(before ?? "~", limit);
  const trials = database.query<EntryRow, [string, string]>(
    "SELECT id, kind, at_ms, head, NULL AS body FROM entry WHERE id > ? AND id < ? AND kind <> 'event' ORDER BY n",
  );
  return rows.flatMap(({ id, at_ms, head, whole }) => {
    const summary = readHeadOrNull<FaultHead>(head);
    if (summary === null) {
      problems.push({ path, why: `the row of fault ${id} is damaged` });
      return [];
    }
    const tried = trialsOf(trials.all(id, faultRange(id as FaultId).after)).map(({ trial, decision, outcome }) => ({
      trial,
      rung: outcome?.rung ?? rungOf(decision.edit),
      verdict: outcome?.verdict ?? null,
    }));
    return [{ ...summary, id: id as FaultId, guard, atMs: at_ms, whole: whole === 1, trials: tried }];
  });
}

function findFaults(path: string, idOrPart: string): FaultId[] {
  if (!/^[0-9a-z-]{1,40}$/.test(idOrPart)) return [];
  using database = openReadOnly(path);
  return database
    .query<{ id: FaultId }, [string, string, string]>(
      `SELECT id FROM entry WHERE kind = 'fault' AND id >= ? AND id < ?
       UNION SELECT id FROM entry WHERE kind = 'fault' AND substr(id, -6) = ? LIMIT 16`,
    )
    .all(idOrPart, `${idOrPart}~`, `-${idOrPart}`)
    .map(({ id }) => id);
}

function readRecord(path: string, guard: string, id: FaultId): FaultRecord {
  try {
    using database = openReadOnly(path);
    const { first, after } = faultRange(id);
    const rows = database
      .query<EntryRow, [string, string]>(
        "SELECT id, kind, at_ms, head, body FROM entry WHERE id >= ? AND id < ? AND kind <> 'event' ORDER BY n",
      )
      .all(first, after);
    const fault = rows.find((row) => row.kind === "fault");
    if (fault === undefined)
      throw new StorageError("storage.notFound", `fault ${id} has just been removed from ${path}`);
    const body = fault.body === null ? null : (parseJson(readBody(fault.body)) as FaultBody);
    return {
      id,
      guard,
      atMs: fault.at_ms,
      head: readHead<FaultHead>(fault.head),
      report: body?.report ?? null,
      plan: body?.plan ?? null,
      trials: trialsOf(rows),
    };
  } catch (cause) {
    if (cause instanceof SyntaxError)
      throw new StorageError("storage.corrupt", `a row of fault ${id} in ${path} is damaged`, {}, cause);
    throw asStorageError(cause, `read fault ${id} from ${path}`);
  }
}

function trialsOf(rows: readonly EntryRow[]): TrialRecord[] {
  const outcomes = rows.flatMap((row) => (row.kind === "outcome" ? (readHeadOrNull<Outcome>(row.head) ?? []) : []));
  return rows.flatMap((row) => {
    const head = row.kind === "intent" ? readHeadOrNull<IntentHead>(row.head) : null;
    if (head === null) return [];
    const past = row.body === null ? [] : (parseJson(readBody(row.body)) as IntentBody).past;
    const outcome = outcomes.find(({ trial }) => trial === row.id) ?? null;
    return [{ trial: row.id as TrialId, atMs: row.at_ms, decision: { ...head.decision, past }, outcome }];
  });
}

function attempt<Value>(path: string, problems: ReadProblem[], read: () => Value, otherwise: Value): Value {
  try {
    return read();
  } catch (error) {
    problems.push({ path, why: explain(error) });
    return otherwise;
  }
}
