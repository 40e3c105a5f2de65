// SPDX-License-Identifier: Apache-2.0
/**
 * What was learned at one site: every edit that was tried there, how often, and how it ended. Gets outcomes; gives the
 * record with them, and the record as past trials, the form in which a decision looks at it. Pure.
 *
 * A record outlives the journal rows it was made from. An edit counts by its last verdict: one that failed last goes behind
 * everything that did not. Limits: 24 edits a site, the oldest go first; counts stop at 2^31.
 */
import { createHash } from "node:crypto";
import type { Architecture, FaultReport, FaultSignal, PastTrial, Rung, Site, TrialId, Verdict } from "#fault.ts";

export const editsPerSiteMax = 24;
const countMax = 2 ** 31;

export type EditRecord = {
  /** Decision.key: what was done. */
  readonly key: string;
  readonly rung: Rung;
  readonly clean: number;
  readonly degraded: number;
  readonly failed: number;
  readonly last: Verdict;
  readonly lastMs: number;
  /** True until this box has an outcome of its own: then the counts are those of the box it was imported from. */
  readonly imported: boolean;
};

/** The main file of a program: by its build it is the same program on every box. */
export type ProgramIdentity = {
  readonly program: string;
  /** GNU build-id in hex; "" where it has none. */
  readonly build: string;
};

export const unknownProgram: ProgramIdentity = { program: "", build: "" };

export type SiteRecord = ProgramIdentity & {
  readonly site: Site;
  readonly signal: FaultSignal;
  readonly architecture: Architecture;
  readonly lastFaultMs: number;
  readonly edits: readonly EditRecord[];
  /** Trials up to this time count no more; 0 where nobody has said so. */
  readonly forgottenMs: number;
};

/** Names a site on every box: the same 12 digits wherever the same build faults at the same place by the same signal. */
export function recordId({ site, signal }: Pick<SiteRecord, "site" | "signal">): string {
  return createHash("sha256").update(`${site.fault}\n${site.boundary}\n${signal}`).digest("hex").slice(0, 12);
}

export type Trial = { readonly key: string; readonly rung: Rung; readonly verdict: Verdict; readonly atMs: number };

/** The record of the report's site with one more outcome in it. */
export function withTrial(
  known: SiteRecord | null,
  report: Pick<FaultReport, "site" | "signal" | "architecture" | "atMs">,
  program: ProgramIdentity,
  { key, rung, verdict, atMs }: Trial,
): SiteRecord {
  const before = known?.edits.find((edit) => edit.key === key && !edit.imported);
  const count = (which: Verdict): number => Math.min(countMax, (before?.[which] ?? 0) + (which === verdict ? 1 : 0));
  const edit: EditRecord = {
    ...{ key, rung, last: verdict, lastMs: atMs, imported: false },
    ...{ clean: count("clean"), degraded: count("degraded"), failed: count("failed") },
  };
  const others = (known?.edits ?? []).filter((other) => other.key !== key);
  const { site, signal, architecture } = report;
  return {
    ...{ site, signal, architecture, ...(program.build === "" && known !== null ? identityOf(known) : program) },
    lastFaultMs: Math.max(report.atMs, known?.lastFaultMs ?? 0),
    edits: newest([...others, edit]),
    forgottenMs: known?.forgottenMs ?? 0,
  };
}

/** What is known here goes before what was imported. */
export function withImport(known: SiteRecord | null, other: SiteRecord): SiteRecord {
  const own = known?.edits ?? [];
  const added = other.edits.filter((edit) => !own.some(({ key, imported }) => key === edit.key && !imported));
  const kept = own.filter((edit) => !added.some(({ key }) => key === edit.key));
  return {
    ...(known ?? other),
    lastFaultMs: known?.lastFaultMs ?? other.lastFaultMs,
    edits: newest([...kept, ...added.map((edit) => ({ ...edit, imported: true }))]),
    forgottenMs: known?.forgottenMs ?? 0,
  };
}

/** Nothing is known any more: neither what is recorded here nor what the journal says of the time before. */
export const forgotten = (known: SiteRecord, atMs: number): SiteRecord => ({ ...known, edits: [], forgottenMs: atMs });

/** Each edit as one trial with the last verdict, at the time of it. */
export function asTrials(record: SiteRecord): PastTrial[] {
  const id = recordId(record);
  return record.edits.map(({ key, rung, last, lastMs }) => ({
    ...{ trial: `record-${id}` as TrialId, site: record.site, tid: 0, key, rung, atMs: lastMs, verdict: last },
    ...{ session: null, veteran: false },
  }));
}

/** The edit that the next fault at the site gets first; null where none has worked. */
export function bestEdit({ edits }: Pick<SiteRecord, "edits">): EditRecord | null {
  const rank = { clean: 0, degraded: 1, failed: 2 } as const;
  const worked = edits.filter(({ last }) => last !== "failed");
  return worked.sort((a, b) => rank[a.last] - rank[b.last] || b.lastMs - a.lastMs)[0] ?? null;
}

const identityOf = ({ program, build }: ProgramIdentity): ProgramIdentity => ({ program, build });

const newest = (edits: readonly EditRecord[]): EditRecord[] =>
  [...edits].sort((a, b) => b.lastMs - a.lastMs).slice(0, editsPerSiteMax);
