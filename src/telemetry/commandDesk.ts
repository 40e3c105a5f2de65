// SPDX-License-Identifier: Apache-2.0
/**
 * Where commands arrive. Gets received messages; gives verified requests as an async iterable, and answers as job rows.
 * `receive` resolves when the message may be acknowledged: its counter, its id and its job are on the disk by then.
 *
 * At most 16 jobs are open, 10 commands a minute a key; a job that is not done by its deadline has failed. Every decision
 * is an audit event. If the disk does not take a command in time it is not obeyed: its asker hears nothing and asks again.
 */
import { createHash } from "node:crypto";
import { type Clock, deadline, type Random } from "#clock.ts";
import { TelemetryError } from "#errors.ts";
import type { VerbArguments, VerbJob, VerbName, VerbProgress, VerbRequest, VerbResult } from "#verbs.ts";
import { type CborMap, encodeCbor } from "./cbor.ts";
import { type Incoming, judgeCommand, type Ruling, type SignedCommand } from "./commandJudge.ts";
import type { EventFacts, JournalFeed } from "./feed.ts";
import type { Answer, Job, Jobs } from "./jobs.ts";
import type { ReceivedMessage } from "./link.ts";
import type { Outbox } from "./outbox.ts";
import { isFinal, type JobState } from "./payloads.ts";
import { Queue } from "./queue.ts";
import { RefusalAudit } from "./refusals.ts";
import { isNew, readWindow, withCounter, writeWindow } from "./replay.ts";
import type { BoxTopics } from "./topics.ts";
import type { TrustList } from "./trust.ts";

export const openJobsMax = 16;
export const commandsPerMinute = 10;
/** Two admin keys have this long to agree. */
export const pairMs = 10 * 60_000;
/** A seen id is kept this much longer than its command can be valid. */
const rememberMs = 3_600_000;
/** Longer than this for a commit, and the command is not obeyed. */
const durableMs = 3_000;
const sweepMs = 1_000;
const minuteMs = 60_000;

/** How long each verb may take; what is not named has five minutes. */
const deadlineMs: Partial<Record<VerbName, number>> = {
  ping: 30_000,
  "update.install": 3_600_000,
  "guest.restore": 1_800_000,
  reboot: 1_800_000,
  diag: 600_000,
};
const usualDeadlineMs = 300_000;

export type DeskOptions = {
  readonly outbox: Outbox;
  readonly feed: JournalFeed;
  readonly jobs: Jobs;
  readonly topics: BoxTopics;
  readonly trust: TrustList;
  readonly boot: string;
  readonly clock: Clock;
  readonly random: Random;
  readonly clockKnown: () => boolean;
};

export class CommandDesk {
  readonly #options: DeskOptions;
  readonly #requests = new Queue<VerbJob>(openJobsMax);
  readonly #running = new Map<string, AbortController>();
  readonly #refusals = new RefusalAudit();
  readonly #recent = new Map<string, number[]>();
  /** `commands_total` by result. */
  readonly counts = new Map<string, number>();

  constructor(options: DeskOptions) {
    this.#options = options;
    options.jobs.settleInterrupted();
  }

  /** Verified requests in the order of their arrival. One reader. */
  requests(signal: AbortSignal): AsyncIterable<VerbJob> {
    return this.#requests.read(signal);
  }

  /** Judges a message; resolves when it may be acknowledged. */
  async receive(incoming: Incoming, message: ReceivedMessage): Promise<void> {
    const { clock, topics, trust, clockKnown } = this.#options;
    const ruling = judgeCommand(incoming, {
      device: topics.device,
      nowSeconds: Math.floor(clock.wallMs() / 1000),
      clockKnown: clockKnown(),
      find: (id) => trust.find(id),
    });
    if (ruling.kind === "stranger") {
      this.#refuse(ruling.why, { verb: incoming.verb });
      return;
    }
    await this.#admit(ruling, message);
    this.#audit();
  }

  /** Ends jobs whose time is over and tells of refusals, until the signal. */
  async run(signal: AbortSignal): Promise<void> {
    const { clock, jobs } = this.#options;
    for (;;) {
      await clock.sleep(sweepMs, signal);
      this.#audit();
      for (const job of jobs.open) {
        if (job.deadlineMs > clock.wallMs()) continue;
        const { id } = job.payload;
        if (job.pair !== null) this.#finish(id, { kind: "expired", why: "no second admin key asked for it in time" });
        else this.#finish(id, { kind: "failed", why: "it was not done in time" });
      }
      this.#forgetOldIds();
    }
  }

  /** Ends a job that outlived this process, or was asked for by other means. */
  async settle(id: string, result: VerbResult): Promise<void> {
    this.#finish(id, result);
    await this.#options.outbox.flush();
  }

  /** Cancels a job. False where it is not open. */
  cancel(id: string, why: string): boolean {
    return this.#finish(id, { kind: "cancelled", why });
  }

  async #admit(ruling: Exclude<Ruling, { kind: "stranger" }>, message: ReceivedMessage): Promise<void> {
    const { outbox, jobs } = this.#options;
    const { command } = ruling;
    const { keyId, id } = command;
    const known = jobs.get(id);
    if (outbox.note("command", `${keyId}/${id}`) !== null) {
      this.#count("repeat");
      if (known !== null) jobs.answer(known);
      return;
    }
    const window = readWindow(outbox.note("counter", keyId));
    if (!isNew(window, command.counter)) return this.#refuse("counter", factsOf(command));
    if (!this.#withinRate(keyId)) return this.#refuse("rate", factsOf(command));
    outbox.putNote("command", `${keyId}/${id}`, String(command.expiresAt * 1000 + rememberMs));
    outbox.putNote("counter", keyId, writeWindow(withCounter(window, command.counter)));
    const start = this.#decide(ruling, known, this.#answerTo(message));
    try {
      using patience = deadline(
        durableMs,
        () => new TelemetryError("telemetry.timeout", "the disk did not take it in time"),
      );
      await outbox.flush(patience.signal);
    } catch (error) {
      if (!(error instanceof TelemetryError)) throw error;
      this.#finish(id, { kind: "failed", why: error.message });
      return;
    }
    start?.();
  }

  /** Writes down the job in its first state; gives what is to be done once that is durable. */
  #decide(ruling: Exclude<Ruling, { kind: "stranger" }>, known: Job | null, answer: Answer): (() => void) | null {
    const { command } = ruling;
    const { id } = command;
    const { jobs } = this.#options;
    const reject = (why: string, state: JobState = "rejected"): null => {
      this.#refuse(why, factsOf(command));
      if (known === null) jobs.add(this.#job(command, state, answer, { why }));
      return null;
    };
    if (ruling.kind === "refused") return reject(ruling.why, ruling.state);
    const digest = digestOf(command.verb, ruling.args);
    if (known !== null) {
      if (known.pair === null || isFinal(known.payload.s)) return reject("this id is taken");
      if (known.pair.keyId === command.keyId || known.pair.digest !== digest)
        return reject("not what the first key asked for");
      jobs.confirm(id, this.#deadline(command.verb));
      this.#accept(command, { second: true });
      return () => this.#start(command, ruling.args);
    }
    if (jobs.open.length >= openJobsMax) return reject(`${openJobsMax} jobs are open already`);
    const wait = ruling.pair ? { pair: { keyId: command.keyId, digest } } : {};
    jobs.add(
      this.#job(command, "accepted", answer, ruling.pair ? { step: "waiting for a second admin key" } : {}, wait),
    );
    this.#accept(command, ruling.pair ? { first: true } : {});
    return ruling.pair ? null : () => this.#start(command, ruling.args);
  }

  #job(
    command: SignedCommand,
    state: JobState,
    answer: Answer,
    more: Partial<Job["payload"]>,
    wait: Partial<Job> = {},
  ): Job {
    const { boot, clock } = this.#options;
    const { id, verb, keyId } = command;
    const atMs = clock.wallMs();
    return {
      payload: { v: 1, id, verb, s: state, t: atMs, by: keyId, ...more },
      boot,
      createdMs: atMs,
      deadlineMs: wait.pair === undefined ? this.#deadline(verb) : atMs + pairMs,
      answer,
      pair: null,
      ...wait,
    };
  }

  #start(command: SignedCommand, args: VerbArguments): void {
    const { jobs, clock, random } = this.#options;
    const { id, verb, role, keyId } = command;
    const controller = new AbortController();
    this.#running.set(id, controller);
    const deadlineAtMs = jobs.get(id)?.deadlineMs ?? this.#deadline(verb);
    const request: VerbRequest = { id, verb, args, role, by: { via: "mqtt", who: keyId }, deadlineMs: deadlineAtMs };
    const job: VerbJob = {
      request,
      signal: controller.signal,
      progress: (progress: VerbProgress) => jobs.progress(id, progress),
      finish: (result: VerbResult) => this.settle(id, result),
    };
    const jitterMs = typeof args.jitter_s === "number" ? random() * args.jitter_s * 1000 : 0;
    if (jitterMs === 0) this.#requests.push(job);
    else
      void clock.sleep(jitterMs, controller.signal).then(
        () => this.#requests.push(job),
        () => {},
      );
  }

  #finish(id: string, result: Parameters<Jobs["finish"]>[1]): boolean {
    const { jobs, feed } = this.#options;
    if (!jobs.finish(id, result)) return false;
    this.#count(result.kind);
    const job = jobs.get(id);
    const severity = result.kind === "succeeded" ? 1 : 2;
    feed.record("audit.job", "", { id, verb: job?.payload.verb, key: job?.payload.by, outcome: result.kind, severity });
    this.#running.get(id)?.abort(new TelemetryError("telemetry.closed", `the job is over: ${result.kind}`));
    this.#running.delete(id);
    return true;
  }

  #accept(command: SignedCommand, more: EventFacts): void {
    this.#count("accepted");
    this.#options.feed.record("audit.command", "", { ...factsOf(command), outcome: "accepted", ...more });
  }

  #refuse(why: string, facts: EventFacts): void {
    this.#count("refused");
    this.#refusals.note(why, facts);
    this.#audit();
  }

  #audit(): void {
    const facts = this.#refusals.take(this.#options.clock.monotonicNs() / 1e6);
    if (facts !== null) this.#options.feed.record("audit.refused", "", facts);
  }

  /** v5: where the asker said, if it is below `_rsp`; else `P/rsp`. */
  #answerTo({ responseTopic, correlation }: ReceivedMessage): Answer {
    const { topics } = this.#options;
    const asked = responseTopic !== null && topics.isAnswer(responseTopic);
    return {
      topic: asked ? responseTopic : topics.response,
      correlation: asked ? (correlation?.slice(0, 64) ?? null) : null,
    };
  }

  #withinRate(keyId: string): boolean {
    const nowMs = this.#options.clock.monotonicNs() / 1e6;
    const recent = (this.#recent.get(keyId) ?? []).filter((atMs) => atMs > nowMs - minuteMs);
    const within = recent.length < commandsPerMinute;
    this.#recent.set(keyId, within ? [...recent, nowMs] : recent);
    return within;
  }

  #forgetOldIds(): void {
    const { outbox, clock, clockKnown } = this.#options;
    if (!clockKnown()) return;
    for (const { id, value } of outbox.notes("command")) {
      if (Number(value) < clock.wallMs()) outbox.putNote("command", id, null);
    }
  }

  #deadline(verb: VerbName): number {
    return this.#options.clock.wallMs() + (deadlineMs[verb] ?? usualDeadlineMs);
  }

  #count(result: string): void {
    this.counts.set(result, (this.counts.get(result) ?? 0) + 1);
  }
}

const factsOf = ({ keyId, verb, id }: SignedCommand): EventFacts => ({ key: keyId, verb, id });

const digestOf = (verb: string, args: VerbArguments): string =>
  createHash("sha256")
    .update(verb)
    .update("\0")
    .update(encodeCbor(args as CborMap))
    .digest("hex");
