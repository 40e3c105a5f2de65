// SPDX-License-Identifier: Apache-2.0
/**
 * Connections that talk all the time, each with its fate: what the first thing was that went wrong for it.
 *
 * Gets a port and a talk; every client asks one thing at a time, thinks, asks again. A client that got anything but its
 * right answer leaves and never comes back, as it cannot know any more what the server holds. Nobody is told who caused a
 * fault: who is harmed, and how, is counted for all.
 */
import { Connection, type ConnectionEnd } from "#appliance/demo/connection.ts";
import type { Framing } from "#appliance/demo/framing.ts";
import { type Exchange, type Traffic, type TrafficMaker, textOf } from "#appliance/demo/traffic.ts";
import { type Clock, type Random, seededRandom } from "#clock.ts";
import { TaskGroup } from "#tasks.ts";

/** What a server's clients say, and how its answers are judged. */
export type Talk = {
  readonly framing: Framing;
  readonly traffic: TrafficMaker;
  /** The part of an answer that must be equal. */
  readonly essence: (answer: Uint8Array) => string;
  /** True for an answer that says that something went wrong: an honest one. */
  readonly refused: (answer: Uint8Array) => boolean;
};

/**
 * `refused`: an error answer. `wrong`: a well-formed answer that is not the right one. `garbled`: bytes that are no answer.
 * `cut`: the connection ended. `silent`: no answer for `silentMs`.
 */
export type Fate = "right" | "refused" | "wrong" | "garbled" | "cut" | "silent";

export type ClientFate = {
  readonly client: number;
  /** As the server sees it. */
  readonly peer: string;
  readonly fate: Fate;
  readonly words: string;
  /**
   * Whether a request may have been under way when the connection ended: it had no answer yet, or its answer was among the
   * last that anybody got. A server may fault after it has answered, and nobody is answered while it is stopped.
   */
  readonly waiting: boolean;
};

export type LoadOptions = {
  readonly port: number;
  readonly connections: number;
  readonly talk: Talk;
  readonly seed: number;
  readonly prefix: string;
  readonly clock: Clock;
};

const thinkMsMax = 16;
const tickMs = 1;
const silentMs = 1_500;
const settleMsMax = 5_000;
/** Answers that are on their way at once reach us in any order. */
const lastAnswers = 4;

/** Answers to all clients so far. */
type Crowd = { answered: number };

export class Load implements AsyncDisposable {
  readonly #clients: Client[] = [];
  readonly #tasks = new TaskGroup();

  private constructor(private readonly options: LoadOptions) {}

  /** @throws ProgramError where a connection cannot be opened */
  static async start(options: LoadOptions): Promise<Load> {
    const load = new Load(options);
    const crowd: Crowd = { answered: 0 };
    try {
      for (let number = 0; number < options.connections; number += 1)
        load.#clients.push(await Client.open(number, options, crowd));
    } catch (error) {
      for (const client of load.#clients) client.leave();
      throw error;
    }
    load.#tasks.start((signal) => load.#run(signal));
    return load;
  }

  get answers(): number {
    return this.#clients.reduce((sum, client) => sum + client.answers, 0);
  }

  /** Waits until every client that is still there has had `count` more answers; false where that takes too long. */
  async moreAnswers(count: number, waitMsMax = settleMsMax): Promise<boolean> {
    const { clock } = this.options;
    const wanted = this.#clients.map((client) => client.answers + count);
    const endNs = clock.monotonicNs() + waitMsMax * 1e6;
    const isDone = (): boolean =>
      this.fates().every(({ fate }, index) => fate !== "right" || this.#clients[index]!.answers >= wanted[index]!);
    while (!isDone()) {
      if (clock.monotonicNs() > endNs) return false;
      await clock.sleep(tickMs);
    }
    return true;
  }

  /** The fates so far; a request that has waited too long makes its client's fate silent. */
  fates(): ClientFate[] {
    const nowNs = this.options.clock.monotonicNs();
    return this.#clients.map((client) => client.fateAt(nowNs));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#tasks[Symbol.asyncDispose]();
    for (const client of this.#clients) client.leave();
  }

  async #run(signal: AbortSignal): Promise<void> {
    const { clock } = this.options;
    while (!signal.aborted) {
      const nowNs = clock.monotonicNs();
      for (const client of this.#clients) client.tick(nowNs);
      await clock.sleep(tickMs, signal).catch(() => {});
    }
  }
}

class Client {
  fate: Fate = "right";
  answers = 0;
  #words = "";
  #waiting = false;
  #connection!: Connection;
  #peer = "";
  #asked: { exchange: Exchange; atNs: number } | null = null;
  /** Of all answers to anybody, the number of the last one to this client. */
  #answered = 0;
  #dueNs = 0;
  readonly #random: Random;
  readonly #traffic: Traffic;

  private constructor(
    private readonly number: number,
    private readonly options: LoadOptions,
    private readonly crowd: Crowd,
  ) {
    this.#random = seededRandom(options.seed * 1000 + number);
    this.#traffic = options.talk.traffic(number, this.#random, options.prefix);
  }

  static async open(number: number, options: LoadOptions, crowd: Crowd): Promise<Client> {
    const client = new Client(number, options, crowd);
    client.#connection = await Connection.open(options.port, options.talk.framing, {
      answer: (bytes) => client.#hear(bytes),
      end: (how) => client.#lose(how),
    });
    client.#peer = `127.0.0.1:${client.#connection.localPort}`;
    return client;
  }

  tick(nowNs: number): void {
    if (this.#asked !== null || this.fate !== "right" || nowNs < this.#dueNs) return;
    const exchange = this.#traffic.next();
    this.#asked = { exchange, atNs: nowNs };
    this.#connection.send(exchange.request);
  }

  fateAt(nowNs: number): ClientFate {
    const waitedMs = this.#asked === null ? 0 : (nowNs - this.#asked.atNs) / 1e6;
    if (this.fate === "right" && waitedMs > silentMs)
      this.#harm("silent", `no answer to ${excerpt(this.#asked!.exchange.request)}`);
    return { client: this.number, peer: this.#peer, fate: this.fate, words: this.#words, waiting: this.#waiting };
  }

  leave(): void {
    this.#connection.leave();
  }

  #hear(bytes: Uint8Array): void {
    const asked = this.#asked;
    if (this.fate !== "right") return;
    if (asked === null) {
      this.#harm("wrong", `${excerpt(bytes)}, which nobody asked for`);
      return;
    }
    this.#asked = null;
    this.crowd.answered += 1;
    this.#answered = this.crowd.answered;
    this.#dueNs = asked.atNs + this.#random() * thinkMsMax * 1e6;
    const { essence, refused } = this.options.talk;
    if (essence(bytes) === essence(asked.exchange.expected)) this.answers += 1;
    else {
      const words = `${excerpt(bytes)} to ${excerpt(asked.exchange.request)}, not ${excerpt(asked.exchange.expected)}`;
      this.#harm(refused(bytes) ? "refused" : "wrong", words);
    }
  }

  #harm(fate: Fate, words: string): void {
    this.fate = fate;
    this.#words = words;
    this.#waiting = this.#asked !== null || this.crowd.answered - this.#answered < lastAnswers;
    if (fate !== "silent") this.#connection.leave();
  }

  #lose(how: ConnectionEnd): void {
    if (how === "left" || this.fate !== "right") return;
    const during = this.#asked === null ? "between two requests" : `during ${excerpt(this.#asked.exchange.request)}`;
    this.#harm(how === "garbled" ? "garbled" : "cut", `connection ${how} ${during}`);
  }
}

const excerpt = (bytes: Uint8Array): string => JSON.stringify(textOf(bytes.subarray(0, 100)));
