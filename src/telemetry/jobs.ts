// SPDX-License-Identifier: Apache-2.0
/**
 * Jobs: what came of each command, kept over a restart, told as a retained topic and as an answer to whoever asked. Gets
 * changes of state; gives rows, topics and answers. The newest 8 are retained at the broker, 64 are remembered.
 *
 * An end is written once; later ones are ignored. What was running when we died has failed, unless the death was its work
 * (reboot, update): those stay open until somebody settles them or their time is over.
 */
import type { Clock } from "#clock.ts";
import type { VerbName, VerbProgress, VerbResult } from "#verbs.ts";
import type { CborMap } from "./cbor.ts";
import { contentTypes, type Encoding, formsOf, schemaOf } from "./encoding.ts";
import type { KeptTopics } from "./kept.ts";
import type { Outbox } from "./outbox.ts";
import { isFinal, type JobPayload } from "./payloads.ts";
import type { BoxTopics } from "./topics.ts";

const retainedJobs = 8;
const rememberedJobs = 64;
/** Verbs whose work may end this process. */
const outliving: readonly VerbName[] = ["reboot", "update.install", "update.rollback", "wipe"];

export type Answer = { readonly topic: string; readonly correlation: Uint8Array | null };
export type Job = {
  readonly payload: JobPayload;
  /** The boot in which it was asked for. */
  readonly boot: string;
  readonly createdMs: number;
  readonly deadlineMs: number;
  /** Where the answer goes; null where nobody waits for one. */
  readonly answer: Answer | null;
  /** Set while a second admin key is awaited: the first key and what exactly it asked for. */
  readonly pair: { readonly keyId: string; readonly digest: string } | null;
};
type StoredJob = Omit<Job, "answer"> & { readonly answer: { topic: string; correlation: string | null } | null };

export type JobsOptions = {
  readonly outbox: Outbox;
  readonly kept: KeptTopics;
  readonly topics: BoxTopics;
  readonly encoding: Encoding;
  readonly boot: string;
  readonly clock: Clock;
};

export class Jobs {
  readonly #options: JobsOptions;
  readonly #jobs = new Map<string, Job>();

  constructor(options: JobsOptions) {
    this.#options = options;
    const stored = options.outbox.notes("job").map(({ value }) => readJob(value));
    for (const job of stored.sort((a, b) => a.createdMs - b.createdMs)) this.#jobs.set(job.payload.id, job);
  }

  get(id: string): Job | null {
    return this.#jobs.get(id) ?? null;
  }

  /** Newest first. */
  all(): readonly Job[] {
    return [...this.#jobs.values()].reverse();
  }

  get open(): readonly Job[] {
    return this.all().filter((job) => !isFinal(job.payload.s));
  }

  /** Writes down a new job, in any state. */
  add(job: Job): void {
    this.#put(job);
    this.#forget();
    if (isFinal(job.payload.s)) this.answer(job);
  }

  progress(id: string, { percent, step, secondsLeft }: VerbProgress): void {
    this.#change(id, {
      s: "running",
      ...(percent === undefined ? {} : { pct: Math.min(100, Math.max(0, Math.round(percent))) }),
      ...(step === undefined ? {} : { step: step.slice(0, 128) }),
      ...(secondsLeft === undefined ? {} : { left_s: Math.max(0, Math.round(secondsLeft)) }),
    });
  }

  /** Ends a job. False where it had ended before, or is not known. */
  finish(id: string, result: VerbResult | { readonly kind: "expired"; readonly why: string }): boolean {
    const why = "why" in result ? { why: result.why.slice(0, 256) } : {};
    const value = "result" in result && result.result !== undefined ? { result: { ...result.result } } : {};
    const job = this.#change(id, { s: result.kind, ...why, ...value });
    if (job === null) return false;
    this.answer(job);
    return true;
  }

  /** The pair is complete: the job goes on, within its own time. */
  confirm(id: string, deadlineMs: number): void {
    const job = this.#jobs.get(id);
    if (job !== undefined) this.#put({ ...job, pair: null, deadlineMs });
  }

  /** After a start: what was under way has failed with the process that did it. */
  settleInterrupted(): void {
    for (const { payload, boot } of this.open) {
      if (payload.verb === "reboot" && boot !== this.#options.boot) this.finish(payload.id, { kind: "succeeded" });
      else if (!outliving.includes(payload.verb as VerbName)) {
        this.finish(payload.id, { kind: "failed", why: "interrupted: the supervisor was restarted" });
      }
    }
  }

  /** Tells the asker, and whoever looks at the topic, how the job stands. */
  answer(job: Job): void {
    const { outbox, topics, encoding, boot, clock } = this.#options;
    const { answer, payload } = job;
    this.#options.kept.offer(topics.job(payload.id));
    if (answer === null) return;
    const [form] = formsOf(topics, answer.topic, payload as CborMap, encoding === "json" ? "cbor" : encoding);
    const atMs = clock.wallMs();
    outbox.append([
      {
        id: `answer/${payload.id}/${payload.s}/${atMs}`,
        lane: "event",
        rank: 2,
        topic: form!.topic,
        schema: schemaOf("job"),
        payload: form!.payload,
        atMs,
        boot,
        n: 0,
        quality: "synced",
        ...(answer.correlation === null ? {} : { correlation: answer.correlation }),
      },
    ]);
  }

  #change(id: string, change: Partial<JobPayload>): Job | null {
    const job = this.#jobs.get(id);
    if (job === undefined || isFinal(job.payload.s)) return null;
    const changed = { ...job, payload: { ...job.payload, ...change, t: this.#options.clock.wallMs() } };
    this.#put(changed);
    return changed;
  }

  #put(job: Job): void {
    const { outbox, kept, topics, encoding } = this.#options;
    const { payload, answer } = job;
    this.#jobs.set(payload.id, job);
    const correlation = answer?.correlation == null ? null : new Uint8Array(answer.correlation).toBase64();
    const stored: StoredJob = { ...job, answer: answer === null ? null : { topic: answer.topic, correlation } };
    outbox.putNote("job", payload.id, JSON.stringify(stored));
    for (const form of formsOf(topics, topics.job(payload.id), payload as CborMap, encoding)) {
      const contentType = form.json ? contentTypes.json : contentTypes.cbor;
      kept.set({ topic: form.topic, schema: schemaOf("job"), contentType, payload: form.payload });
    }
  }

  /** Keeps the newest, and every open one. */
  #forget(): void {
    const { outbox, kept, topics } = this.#options;
    for (const [index, { payload }] of this.all().entries()) {
      if (!isFinal(payload.s)) continue;
      const topic = topics.job(payload.id);
      if (index >= retainedJobs) for (const each of [topic, topics.mirror(topic)]) kept.clear(each);
      if (index < rememberedJobs) continue;
      this.#jobs.delete(payload.id);
      outbox.putNote("job", payload.id, null);
    }
  }
}

function readJob(value: string): Job {
  const stored = JSON.parse(value) as StoredJob;
  const { answer } = stored;
  if (answer === null) return { ...stored, answer: null };
  const correlation = answer.correlation === null ? null : Uint8Array.fromBase64(answer.correlation);
  return { ...stored, answer: { topic: answer.topic, correlation } };
}
