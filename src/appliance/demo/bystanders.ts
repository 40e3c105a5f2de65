// SPDX-License-Identifier: Apache-2.0
/**
 * Bystanders: clients that do nothing wrong, speak all the time and check every answer byte for byte.
 *
 * Gets a port, a conversation and a pace; gives counts of what went right and wrong. Closed pace: each client keeps a fixed
 * number of requests under way. Open pace: requests fall due at a fixed rate whatever the server does, and latency counts
 * from the moment they fell due, so a pause is not hidden by clients that wait. A client that lost its connection stays
 * away: a loss is never made good by a reconnect. At most `underWayMax` requests a client are under way.
 */
import { type Clock, deadline, seededRandom } from "#clock.ts";
import { TaskGroup } from "#tasks.ts";
import { Connection, type ConnectionEnd } from "./connection.ts";
import type { Framing } from "./framing.ts";
import { LatencyHistogram, type LatencySummary } from "./latency.ts";
import { type Exchange, type Traffic, type TrafficMaker, textOf } from "./traffic.ts";

export type Pace =
  | { readonly kind: "closed"; readonly underWay: number }
  | { readonly kind: "open"; readonly requestsPerSecond: number };

export type BystanderOptions = {
  readonly port: number;
  readonly connections: number;
  readonly framing: Framing;
  readonly traffic: TrafficMaker;
  readonly pace: Pace;
  readonly seed: number;
  readonly clock: Clock;
  /** Keys of one load start with this; two loads on one server need two. */
  readonly prefix?: string;
};

export type BystanderCounts = {
  readonly connections: number;
  /** Requests answered rightly. */
  readonly right: number;
  /** Answers that differ from the one right answer, or that nobody asked for. */
  readonly wrong: number;
  /** Requests that were never answered. */
  readonly missing: number;
  /** Connections that ended without our doing. */
  readonly lost: number;
  readonly underWay: number;
  readonly latency: LatencySummary;
  /** The first wrong answers and losses, in words. */
  readonly evidence: readonly string[];
};

const underWayMax = 1_024;
const evidenceMax = 10;
const tickMs = 1;
/** An answer that takes longer than this after the end of the load is missing. */
const drainMsMax = 5_000;

export class Bystanders implements AsyncDisposable {
  readonly #clients: Client[] = [];
  readonly #tasks = new TaskGroup();
  readonly #tally = new Tally();
  #stopping = false;

  private constructor(private readonly options: BystanderOptions) {}

  /** Opens all connections, then starts to talk. @throws ProgramError where one cannot be opened. */
  static async start(options: BystanderOptions): Promise<Bystanders> {
    const load = new Bystanders(options);
    try {
      for (let number = 0; number < options.connections; number += 1) {
        load.#clients.push(await Client.open(number, options, load.#tally));
      }
    } catch (error) {
      for (const client of load.#clients) client.leave();
      throw error;
    }
    if (options.pace.kind === "open") load.#tasks.start((signal) => load.#pace(signal));
    else for (const client of load.#clients) client.keepUnderWay(options.pace.underWay);
    return load;
  }

  counts(): BystanderCounts {
    const underWay = this.#clients.reduce((sum, client) => sum + client.underWay, 0);
    return this.#tally.counts(this.options.connections, underWay);
  }

  /** Requests and answers of every client once more around, so that "still served" is shown for each of them. */
  async roundTrip(): Promise<void> {
    await Promise.all(this.#clients.map((client) => client.nextAnswer(drainMsMax)));
  }

  /** Ends the talk, waits for the answers under way (what stays out is missing), leaves, and gives the final counts. */
  async stop(): Promise<BystanderCounts> {
    if (!this.#stopping) {
      this.#stopping = true;
      await this.#tasks[Symbol.asyncDispose]();
      for (const client of this.#clients) client.keepUnderWay(0);
      await Promise.all(this.#clients.map((client) => client.drained(drainMsMax)));
      for (const client of this.#clients) client.leave();
    }
    return this.counts();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }

  async #pace(signal: AbortSignal): Promise<void> {
    const { clock, pace } = this.options;
    if (pace.kind !== "open") return;
    const startedNs = clock.monotonicNs();
    for (let issued = 0; !signal.aborted; ) {
      const due = Math.floor(((clock.monotonicNs() - startedNs) / 1e9) * pace.requestsPerSecond);
      for (; issued < due; issued += 1) {
        const dueNs = startedNs + (issued / pace.requestsPerSecond) * 1e9;
        this.#clients[issued % this.#clients.length]?.ask(dueNs);
      }
      await clock.sleep(tickMs, signal);
    }
  }
}

/** What all clients of one load have met. */
class Tally {
  readonly latency = new LatencyHistogram();
  readonly evidence: string[] = [];
  right = 0;
  wrong = 0;
  missing = 0;
  lost = 0;

  note(words: string): void {
    if (this.evidence.length < evidenceMax) this.evidence.push(words);
  }

  counts(connections: number, underWay: number): BystanderCounts {
    const { right, wrong, missing, lost } = this;
    const evidence = [...this.evidence];
    return { connections, right, wrong, missing, lost, underWay, latency: this.latency.summary(), evidence };
  }
}

class Client {
  #connection!: Connection;
  #wanted = 0;
  readonly #asked: { exchange: Exchange; atNs: number }[] = [];
  #waiting: { settle: () => void; idle: boolean }[] = [];
  readonly #traffic: Traffic;

  private constructor(
    private readonly number: number,
    private readonly clock: Clock,
    private readonly tally: Tally,
    options: BystanderOptions,
  ) {
    this.#traffic = options.traffic(number, seededRandom(options.seed + number), options.prefix ?? "bystander");
  }

  static async open(number: number, options: BystanderOptions, tally: Tally): Promise<Client> {
    const client = new Client(number, options.clock, tally, options);
    client.#connection = await Connection.open(options.port, options.framing, {
      answer: (bytes) => client.#hear(bytes),
      end: (how) => client.#lose(how),
    });
    return client;
  }

  get underWay(): number {
    return this.#asked.length;
  }

  keepUnderWay(count: number): void {
    this.#wanted = Math.min(count, underWayMax);
    while (this.#asked.length < this.#wanted && this.#connection.ended === null) this.ask(this.clock.monotonicNs());
  }

  ask(atNs: number): void {
    if (this.#connection.ended !== null || this.#asked.length >= underWayMax) return;
    const exchange = this.#traffic.next();
    this.#asked.push({ exchange, atNs });
    this.#connection.send(exchange.request);
  }

  leave(): void {
    this.#connection.leave();
  }

  /** Resolves at the next answer, at the end of the connection, or when time is up. */
  nextAnswer(waitMsMax: number): Promise<void> {
    return this.#wait(false, waitMsMax);
  }

  drained(waitMsMax: number): Promise<void> {
    return this.#asked.length === 0 ? Promise.resolve() : this.#wait(true, waitMsMax);
  }

  #wait(idle: boolean, waitMsMax: number): Promise<void> {
    if (this.#connection.ended !== null) return Promise.resolve();
    const { promise, resolve } = Promise.withResolvers<void>();
    const late = deadline(waitMsMax, () => new DOMException("no answer in time", "TimeoutError"));
    late.signal.addEventListener("abort", () => resolve(), { once: true });
    this.#waiting.push({ settle: resolve, idle });
    return promise.finally(() => late[Symbol.dispose]());
  }

  #hear(bytes: Uint8Array): void {
    const asked = this.#asked.shift();
    if (asked === undefined) {
      this.#blame("an answer that nobody asked for", bytes);
    } else if (Buffer.compare(bytes, asked.exchange.expected) !== 0) {
      this.#blame(`not ${excerpt(asked.exchange.expected)} to ${excerpt(asked.exchange.request)}`, bytes);
    } else {
      this.tally.right += 1;
      this.tally.latency.add((this.clock.monotonicNs() - asked.atNs) / 1_000);
    }
    this.#wake(this.#asked.length === 0);
    this.keepUnderWay(this.#wanted);
  }

  #blame(words: string, bytes: Uint8Array): void {
    this.tally.wrong += 1;
    this.tally.note(`client ${this.number} got ${excerpt(bytes)}, ${words}`);
  }

  #lose(how: ConnectionEnd): void {
    const open = this.#asked.splice(0).length;
    this.tally.missing += open;
    if (how !== "left") {
      this.tally.lost += 1;
      this.tally.note(`client ${this.number}: connection ${how} with ${open} requests under way`);
    } else if (open > 0) {
      this.tally.note(`client ${this.number}: ${open} requests never answered`);
    }
    this.#wake(true);
  }

  #wake(idle: boolean): void {
    const waiting = this.#waiting.filter((waiter) => !waiter.idle || idle);
    this.#waiting = this.#waiting.filter((waiter) => waiter.idle && !idle);
    for (const waiter of waiting) waiter.settle();
  }
}

const excerpt = (bytes: Uint8Array): string => JSON.stringify(textOf(bytes.subarray(0, 80)));
