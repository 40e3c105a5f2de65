// SPDX-License-Identifier: Apache-2.0
/**
 * Bystanders of a fault: clients that do nothing wrong and check every answer, byte for byte.
 *
 * Some ask without end, with a short rest between two requests; some only after it is all over. Each keeps a sum in its
 * session, so an answer shows whether the session's own state is whole. Gives who was harmed, and how.
 */
import { type Clock, deadline } from "#clock.ts";
import { Client, type Place } from "./client.ts";

const busyCount = 4;
const quietCount = 2;
const restMs = 1;
const warmAnswers = 3;
const moreAnswers = 10;
const moreAnswersMsMax = 10_000;

type Bystander = { readonly name: string; readonly client: Client; sum: number; answers: number; harm: string | null };

export class Crowd implements AsyncDisposable {
  readonly #busy: Bystander[] = [];
  readonly #quiet: Bystander[] = [];
  readonly #leave = new AbortController();
  #asking: Promise<void>[] = [];

  private constructor(
    private readonly place: Place,
    private readonly clock: Clock,
  ) {}

  /** All are connected and have had answers when this resolves. */
  static async gather(place: Place, clock: Clock): Promise<Crowd> {
    const crowd = new Crowd(place, clock);
    for (let index = 0; index < busyCount; index += 1) crowd.#busy.push(await enter(place, `busy ${index}`));
    for (let index = 0; index < quietCount; index += 1) crowd.#quiet.push(await enter(place, `quiet ${index}`));
    for (const bystander of [...crowd.#quiet, ...crowd.#busy]) {
      for (let turn = 0; turn < warmAnswers; turn += 1) await askOnce(bystander);
    }
    crowd.#asking = crowd.#busy.map((bystander) => crowd.#askOn(bystander));
    return crowd;
  }

  /** The busy ones get some more answers, and the quiet ones ask. */
  async askAfterwards(): Promise<void> {
    using late = deadline(moreAnswersMsMax, () => new DOMException("the bystanders are not served", "TimeoutError"));
    const wanted = this.#busy.map((bystander) => bystander.answers + moreAnswers);
    while (this.#busy.some(({ harm, answers: had }, index) => harm === null && had < wanted[index]!)) {
      if (late.signal.aborted) return;
      await this.clock.sleep(restMs);
    }
    for (const bystander of this.#quiet) for (let turn = 0; turn < warmAnswers; turn += 1) await askOnce(bystander);
  }

  /** Whether somebody who connects now is served. */
  async newcomer(): Promise<"served" | "not served"> {
    try {
      const newcomer = await enter(this.place, "newcomer");
      using _client = newcomer.client;
      for (let turn = 0; turn < warmAnswers; turn += 1) await askOnce(newcomer);
      return newcomer.harm === null ? "served" : "not served";
    } catch {
      return "not served"; // nobody listens there any more
    }
  }

  /** Who was harmed and how, in words. */
  harmed(): string[] {
    return [...this.#busy, ...this.#quiet].flatMap(({ name, harm }) => (harm === null ? [] : [`${name}: ${harm}`]));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#leave.abort();
    await Promise.all(this.#asking);
    for (const { client } of [...this.#busy, ...this.#quiet]) client[Symbol.dispose]();
  }

  async #askOn(bystander: Bystander): Promise<void> {
    while (!this.#leave.signal.aborted && bystander.harm === null) {
      await askOnce(bystander);
      await this.clock.sleep(restMs);
    }
  }
}

async function enter(place: Place, name: string): Promise<Bystander> {
  return { name, client: await Client.open(place), sum: 0, answers: 0, harm: null };
}

/** Every third request is an echo; the others add to the session's sum. */
async function askOnce(bystander: Bystander): Promise<void> {
  if (bystander.harm !== null) return;
  const turn = bystander.answers;
  const isEcho = turn % 3 === 2;
  if (!isEcho) bystander.sum += turn;
  const expected = isEcho ? `${bystander.name}, turn ${turn}` : `${bystander.sum}`;
  const heard = await bystander.client.ask(isEcho ? `echo ${expected}` : `add ${turn}`);
  if (typeof heard === "string") bystander.harm = heard;
  else if (heard.line !== expected) bystander.harm = `heard ${heard.line}, not ${expected}`;
  else bystander.answers += 1;
}
