// SPDX-License-Identifier: Apache-2.0
/**
 * The status page as a supervisor runs it, over real storage, with a scripted state of things: for browsers and attackers.
 *
 * Gets what is to be told and recorded; gives its address, its claim code, and a way in. Disposal ends it; `restart` ends
 * it and opens it again at the same address, as a new supervisor would.
 */

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fresh } from "#appliance/page/workloadBook.ts";
import { systemClock } from "#clock.ts";
import type { FaultId, FaultReport, Verdict } from "#fault.ts";
import { silentLog } from "#log.ts";
import type { Audit } from "#status/messages.ts";
import { type StatusSettings, statusDefaults } from "#status/settings.ts";
import { type Listening, StatusPage } from "#status/statusPage.ts";
import { type Told, unknown, type WorkloadTold } from "#status/told.ts";
import { trialId } from "#storage/faultId.ts";
import { Storage } from "#storage/storage.ts";
import { sampleDecision, sampleOutcome, samplePlan, sampleReport } from "#tests/unit/storage/sampleFault.ts";
import type { VerbRequest, VerbResult } from "#verbs.ts";

const turnMs = 100;
export const password = "correct horse battery";

export type ScriptedFault = {
  readonly agoMs: number;
  readonly verdict: Verdict | null;
  readonly report?: Partial<FaultReport>;
  readonly cut?: boolean;
  readonly reason?: string;
  readonly evidence?: readonly string[];
};

/** A program that is guarded, and what differs. */
export const workload = (name: string, change: Partial<WorkloadTold> = {}): WorkloadTold => ({
  ...fresh(name),
  ...{ state: "guarded", sinceMs: systemClock.wallMs() - 7_200_000, pid: 4242, threads: 5, protected: true },
  ...change,
});

export class PageHost implements AsyncDisposable {
  readonly audits: Audit[] = [];
  readonly requests: VerbRequest[] = [];
  readonly failures: string[] = [];
  /** What the next snapshots say beside the usual. */
  told: Partial<Told> | ((nowMs: number) => Partial<Told>) = { workloads: [workload("shop")] };
  /** A supervisor that hangs tells the same snapshot again and again. */
  frozen: Told | null = null;
  /** Waits and asks again where it asked too fast. */
  patient = true;
  #page: StatusPage | null = null;
  #listening: Listening | null = null;

  private constructor(
    readonly scratch: string,
    readonly storage: Storage,
    /** The record's clock runs so far from the real one, ms: for history of another hour. */
    readonly recordTime: { shiftMs: number },
    readonly settings: StatusSettings,
  ) {}

  static async open(settings: Partial<StatusSettings> = {}): Promise<PageHost> {
    const scratch = mkdtempSync(join(tmpdir(), "holdfast-page-"));
    const runDirectory = join(scratch, "run");
    const recordTime = { shiftMs: 0 };
    const clock = { ...systemClock, wallMs: () => systemClock.wallMs() + recordTime.shiftMs };
    const storage = await Storage.open({ directory: join(scratch, "state"), runDirectory, clock, log: silentLog });
    const host = new PageHost(scratch, storage, recordTime, { ...statusDefaults, port: 0, ...settings });
    await host.start();
    return host;
  }

  get url(): string {
    return this.#listening!.url;
  }
  get claim(): string | null {
    return this.#listening!.claim;
  }
  get fingerprint(): string | null {
    return this.#listening!.fingerprint;
  }
  get directory(): string {
    return join(this.scratch, "state");
  }

  async start(): Promise<void> {
    const port = this.#listening === null ? this.settings.port : Number(new URL(this.url).port);
    const opened = Promise.withResolvers<Listening>();
    this.#page = new StatusPage({
      settings: { ...this.settings, port },
      directory: this.directory,
      names: ["box-7", "box-7.local"],
      clock: systemClock,
      collect: () => this.frozen ?? this.collect(),
      perform: async (request): Promise<VerbResult> => {
        this.requests.push(request);
        return { kind: "succeeded" };
      },
      audit: (audit) => this.audits.push(audit),
      listening: opened.resolve,
      failed: (why) => {
        this.failures.push(why);
        opened.reject(new TypeError(why));
      },
    });
    this.#listening = await opened.promise;
  }

  async end(): Promise<void> {
    await this.#page?.[Symbol.asyncDispose]();
    this.#page = null;
  }

  /** Writes faults down as the fault path would, and waits until they are durable. */
  async record(faults: readonly ScriptedFault[]): Promise<FaultId[]> {
    const ids: FaultId[] = [];
    for (const { agoMs, verdict, report: change = {}, cut = false, reason, evidence } of faults) {
      const id = this.storage.nextFaultId();
      ids.push(id);
      const report = sampleReport(id, { workload: "shop", atMs: systemClock.wallMs() - agoMs, ...change });
      const decision = { ...sampleDecision(id), ...(reason === undefined ? {} : { reason }) };
      this.storage.report(report, samplePlan, decision);
      if (verdict === null) continue;
      const rung = cut ? "quarantine" : "abandon";
      const outcome = { ...sampleOutcome(id, 1, verdict), trial: trialId(id, 1), rung } as const;
      this.storage.outcome({ ...outcome, ...(evidence === undefined ? {} : { evidence }) });
    }
    await this.storage.flush();
    return ids;
  }

  /** Makes the first admin and gives the cookie of its login. */
  async claimed(): Promise<string> {
    const form = { code: this.claim ?? "", name: "admin", password, again: password };
    const answer = await this.post("claim", form);
    return cookieOf(answer);
  }

  /** A form as a browser sends it. */
  post(
    path: string,
    form: Readonly<Record<string, string>>,
    headers: Readonly<Record<string, string>> = {},
  ): Promise<Response> {
    const own = { origin: this.url.slice(0, -1), "sec-fetch-site": "same-origin" };
    return this.#ask(path, { method: "POST", body: new URLSearchParams(form), headers: { ...own, ...headers } });
  }

  get(path: string, headers: Readonly<Record<string, string>> = {}): Promise<Response> {
    return this.#ask(path, { headers });
  }

  /** A JSON body as a script sends it. */
  send(path: string, body: string, headers: Readonly<Record<string, string>>): Promise<Response> {
    return this.#ask(path, { method: "POST", body, headers: { "content-type": "application/json", ...headers } });
  }

  async #ask(path: string, options: RequestInit): Promise<Response> {
    for (;;) {
      const request = { ...options, redirect: "manual", tls: { rejectUnauthorized: false } } as const;
      const answer = await fetch(`${this.url}${path}`, request);
      const tooFast = answer.status === 429 && answer.headers.get("content-type") === "application/problem+json";
      if (!tooFast || !this.patient) return answer;
      await systemClock.sleep(turnMs);
    }
  }

  /** A token for scripts with this role. */
  async token(cookie: string, role: string): Promise<string> {
    const csrf = await this.csrf(cookie);
    const answer = await this.post("account/token", { csrf, label: `test ${role}`, role, days: "1" }, { cookie });
    return /hf_[\w-]{43}/.exec(await answer.text())![0];
  }

  /** The token that binds forms to this login. */
  async csrf(cookie: string): Promise<string> {
    const text = await (await this.get("account", { cookie })).text();
    return /name="csrf" value="([^"]+)"/.exec(text)![1]!;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.end();
    await this.storage[Symbol.asyncDispose]();
    rmSync(this.scratch, { recursive: true, force: true });
  }

  collect(): Told {
    return {
      atMs: systemClock.wallMs(),
      box: "box-7",
      version: "0.1.0",
      runtime: `Bun ${Bun.version}`,
      mode: "run",
      startedMs: startedMs,
      pid: process.pid,
      workloads: [],
      storage: this.storage.state(),
      cursor: this.storage.durableCursor,
      uplink: unknown("no uplink is configured for this supervisor"),
      counters: unknown("this supervisor samples no hardware counters"),
      checkpoints: unknown("this supervisor takes no checkpoints"),
      monitor: null,
      updateLock: unknown("this supervisor installs no updates"),
      update: unknown("this supervisor installs no updates"),
      boots: [],
      boxVerbs: [],
      warnings: [],
      metrics: [],
      ...(typeof this.told === "function" ? this.told(systemClock.wallMs()) : this.told),
    };
  }
}

const startedMs = systemClock.wallMs();

export const cookieOf = (answer: Response): string => (answer.headers.get("set-cookie") ?? "").split(";")[0]!;

/** A second account of this role, logged in; gives its cookie. */
export async function loginAs(host: PageHost, admin: string, role: string): Promise<string> {
  const csrf = await host.csrf(admin);
  const name = `test-${role}`;
  await host.post("account/put", { csrf, name, role, fresh: password }, { cookie: admin });
  return cookieOf(await host.post("login", { name, password }));
}

const lookMs = 20;
const patienceNs = 60e9;

/** Asks until it holds. @throws TypeError where it does not within twenty seconds */
export async function until(holds: () => Promise<boolean>): Promise<void> {
  const endNs = systemClock.monotonicNs() + patienceNs;
  while (!(await holds())) {
    if (systemClock.monotonicNs() > endNs) throw new TypeError(`never: ${holds}`);
    await systemClock.sleep(lookMs);
  }
}
