// SPDX-License-Identifier: Apache-2.0
/**
 * All that the page knows, in its own thread: what it was told, what it has read, who may look, and what was asked for.
 * Gets `told` snapshots; gives a View to every page and answer, and wakes live readers.
 */
import type { Clock } from "#clock.ts";
import { explain } from "#errors.ts";
import { seenOr } from "#health.ts";
import type { Role, VerbArguments, VerbName, VerbRequest, VerbResult } from "#verbs.ts";
import { Accounts, newSecret } from "./access/accounts.ts";
import { ownNames } from "./access/certificate.ts";
import { Claim } from "./access/claim.ts";
import { Limiter, Tries } from "./access/limiter.ts";
import { Logins } from "./access/logins.ts";
import type { Audit, PageStart } from "./messages.ts";
import { type HostFacts, readHost } from "./model/host.ts";
import type { Issue } from "./model/issue.ts";
import { findIssues, type Headline, headlineOf } from "./model/issues.ts";
import { rateSpanMs } from "./model/rates.ts";
import { ReadModel } from "./model/readModel.ts";
import { Upload } from "./model/upload.ts";
import { type DayFacts, dayOf, type WorkloadLine, workloadLines } from "./model/workloads.ts";
import { limits, type StatusSettings } from "./settings.ts";
import type { LookTold, Told } from "./told.ts";

const dayMs = 24 * 3_600_000;
const hostEveryMs = 2_000;
const viewEveryMs = 250;
const jobsMax = 200;
const verbMs = 120_000;

/** One consistent look at everything, shared by all readers for a quarter of a second. */
export type View = {
  readonly told: Told;
  /** What the monitor saw a few seconds earlier, for rates; null where it saw nothing then. */
  readonly before: LookTold | null;
  readonly host: HostFacts;
  readonly workloads: readonly WorkloadLine[];
  readonly issues: readonly Issue[];
  readonly headline: Headline;
  readonly day: DayFacts;
  readonly cursor: number;
  readonly nowMs: number;
};

export type Job = {
  readonly id: string;
  readonly verb: VerbName;
  readonly workload: string;
  readonly state: "running" | "succeeded" | "failed" | "cancelled";
  readonly why: string;
  readonly by: string;
  readonly atMs: number;
};

export type PageHooks = {
  readonly clock: Clock;
  readonly act: (request: VerbRequest) => void;
  readonly audit: (audit: Audit) => void;
};

export class Page {
  readonly settings: StatusSettings;
  readonly directory: string;
  readonly clock: Clock;
  readonly record: ReadModel;
  readonly accounts: Accounts;
  readonly claim: Claim;
  readonly logins: Logins;
  readonly tries: Tries;
  readonly requests: Limiter;
  readonly scrapes: Limiter;
  readonly upload: Upload;
  /** Names by which we may be asked. */
  readonly hosts: ReadonlySet<string>;
  readonly #hooks: PageHooks;
  #told: Told;
  /** Looks of the monitor, the oldest first: one every half span. */
  #looks: readonly LookTold[] = [];
  #host: HostFacts | null = null;
  #hostNs = 0;
  #view: View | null = null;
  #viewNs = 0;
  #changed = Promise.withResolvers<void>();
  readonly #jobs = new Map<string, Job>();

  /** @throws StatusError */
  constructor(start: PageStart, hooks: PageHooks) {
    const { clock } = hooks;
    this.settings = start.settings;
    this.directory = start.directory;
    this.clock = clock;
    this.#hooks = hooks;
    this.#told = start.told;
    this.record = new ReadModel(start.directory);
    this.accounts = new Accounts(pageDirectory(start.directory));
    this.claim = new Claim(pageDirectory(start.directory), clock);
    this.logins = new Logins(pageDirectory(start.directory), clock, start.settings.idleMs);
    this.tries = new Tries(clock);
    this.requests = new Limiter(clock, limits.requestsPerSecond, limits.requestsBurst);
    this.scrapes = new Limiter(clock, limits.metricsPerSecond, limits.metricsBurst);
    this.upload = new Upload(start.directory);
    this.hosts = new Set([...ownNames(start.names), ...start.settings.hosts].map((name) => name.toLowerCase()));
  }

  /** The supervisor said something; readers of the stream are woken where it, or the record, has changed. */
  take(told: Told): void {
    const gist = gistOf(this.#told);
    this.#told = told;
    this.#keepLook(told.monitor);
    if (gistOf(told) !== gist) this.#wake();
  }

  #keepLook(look: LookTold | null): void {
    if (look === null) return;
    const lastMs = this.#looks.at(-1)?.atMs ?? 0;
    if (look.atMs - lastMs < rateSpanMs / 2) return;
    this.#looks = [...this.#looks.filter(({ atMs }) => look.atMs - atMs <= rateSpanMs * 1.5), look];
  }

  /** Reads on in the record. True where there is more. */
  readOn(): boolean {
    const before = this.record.cursor;
    const more = this.record.pull(explain);
    if (this.record.cursor !== before) this.#wake();
    return more;
  }

  get view(): View {
    const nowNs = this.clock.monotonicNs();
    if (this.#view === null || nowNs - this.#viewNs > viewEveryMs * 1e6) {
      this.#view = this.#look();
      this.#viewNs = nowNs;
    }
    return this.#view;
  }

  /** Resolves when something to see has changed. */
  get changed(): Promise<void> {
    return this.#changed.promise;
  }

  get jobs(): readonly Job[] {
    return [...this.#jobs.values()].reverse();
  }
  job(id: string): Job | null {
    return this.#jobs.get(id) ?? null;
  }

  /** Asks the supervisor for a verb, in the name of a login; gives the job, the same one for the same id. */
  ask(
    verb: VerbName,
    workload: string,
    by: { name: string; role: Role; from: string },
    id = newSecret().slice(0, 16),
    more: VerbArguments = {},
  ): Job {
    const known = this.#jobs.get(id);
    if (known !== undefined) return known;
    const atMs = this.clock.wallMs();
    const job: Job = { id, verb, workload, state: "running", why: "", by: by.name, atMs };
    this.#jobs.set(id, job);
    if (this.#jobs.size > jobsMax) this.#jobs.delete(this.#jobs.keys().next().value!);
    const args = workload === "" ? more : { ...more, w: workload };
    this.#hooks.act({ id, verb, args, role: by.role, by: { via: "page", who: by.name }, deadlineMs: atMs + verbMs });
    this.audit("page.act", by.name, by.from, { verb, workload });
    return job;
  }

  /** The supervisor has done what was asked, or not. */
  answer(id: string, result: VerbResult): void {
    const job = this.#jobs.get(id);
    if (job === undefined) return;
    this.#jobs.set(id, { ...job, state: result.kind, why: result.kind === "succeeded" ? "" : result.why });
    this.#wake();
  }

  audit(event: string, who: string, from: string, facts: Audit["facts"] = {}): void {
    this.#hooks.audit({ event, who, from, facts });
  }

  #look(): View {
    const told = this.#told;
    const nowMs = this.clock.wallMs();
    const before = this.#looks.find(({ atMs }) => told.monitor !== null && atMs < told.monitor.atMs) ?? null;
    const clock = told.monitor?.host == null ? null : seenOr(told.monitor.host.clock, null);
    const host = { ...this.#readHost(), clockSynchronised: clock?.synced ?? null };
    const recent = this.record.faults({ limit: limits.faultsKept, since: nowMs - dayMs });
    const claimOpen = !this.accounts.claimed && this.claim.isOpen;
    const issues = findIssues({ told, host, recent, recordTrouble: this.record.trouble, claimOpen, nowMs });
    return {
      told,
      before,
      host,
      workloads: workloadLines(told, this.record),
      issues,
      headline: headlineOf(issues, told, nowMs),
      day: dayOf(recent),
      cursor: this.record.cursor,
      nowMs,
    };
  }

  #readHost(): HostFacts {
    const nowNs = this.clock.monotonicNs();
    if (this.#host === null || nowNs - this.#hostNs > hostEveryMs * 1e6) {
      this.#host = readHost(this.directory);
      this.#hostNs = nowNs;
    }
    return this.#host;
  }

  #wake(): void {
    this.#view = null;
    this.#changed.resolve();
    this.#changed = Promise.withResolvers<void>();
  }
}

/** Where accounts, claim file and certificate are. */
export const pageDirectory = (stateDirectory: string): string => `${stateDirectory}/page`;

/** All of it that a reader would call a change: not the time, not figures that move by themselves. */
const gistOf = ({ workloads, storage, uplink, warnings, update }: Told): string =>
  JSON.stringify([workloads, storage.kind, uplink.known ? uplink.value.connected : null, warnings.length, update]);
