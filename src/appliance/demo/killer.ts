// SPDX-License-Identifier: Apache-2.0
/**
 * A guilty client: a connection of its own that says a few things and tells what came of it.
 *
 * Gets a port and requests; gives the answers and how it ended: answered, cut off, or left without an answer. It stays
 * connected until it is disposed, because a server may stumble a second time when a guilty client leaves.
 */
import { deadline } from "#clock.ts";
import { Connection, type ConnectionEnd } from "./connection.ts";
import type { Framing } from "./framing.ts";
import { textOf } from "./traffic.ts";

/** `answered`: the last request got an answer. `cut`: the server ended the connection. `silent`: no answer in time. */
export type KillerFate = "answered" | "cut" | "silent";

export type Killing = AsyncDisposable & {
  readonly fate: KillerFate;
  /** Answers in order, at most `answersMax`, each at most `answerCharactersMax` characters. */
  readonly answers: readonly string[];
  /** ip:port of the guilty client as the server sees it. */
  readonly peer: string;
  /** True as long as the server has not ended the connection. */
  connected(): boolean;
};

const answersMax = 32;
const answerCharactersMax = 400;

export type Patience = {
  /** How long an answer is waited for. */
  readonly answerMsMax: number;
  /** Ends the wait for the last answer: what is not answered by then is silent. */
  readonly enough?: AbortSignal | undefined;
};

/**
 * Connects and sends the requests one after the other, each after the answer to the one before. @throws ProgramError `program.gone` where the server does not accept.
 */
export async function speak(
  port: number,
  framing: Framing,
  requests: readonly Uint8Array[],
  patience: Patience,
): Promise<Killing> {
  const answers: string[] = [];
  let ended: ConnectionEnd | null = null;
  let wake = (): void => {};
  const connection = await Connection.open(port, framing, {
    answer: (bytes) => {
      if (answers.length < answersMax) answers.push(textOf(bytes.subarray(0, answerCharactersMax)));
      wake();
    },
    end: (how) => {
      ended = how;
      wake();
    },
  });
  const peer = `127.0.0.1:${connection.localPort}`;
  let fate: KillerFate = "answered";
  for (const [index, request] of requests.entries()) {
    const heard = Promise.withResolvers<void>();
    wake = heard.resolve;
    if (ended !== null) break;
    connection.send(request);
    await inTime(heard.promise, patience.answerMsMax, index === requests.length - 1 ? patience.enough : undefined);
    fate = ended !== null ? "cut" : answers.length > index ? "answered" : "silent";
    if (fate !== "answered") break;
  }
  return {
    fate: ended !== null ? "cut" : fate,
    answers,
    peer,
    connected: () => ended === null,
    [Symbol.asyncDispose]: async () => connection.leave(),
  };
}

async function inTime(event: Promise<void>, waitMsMax: number, enough?: AbortSignal): Promise<void> {
  using late = deadline(waitMsMax, () => new DOMException("no answer in time", "TimeoutError"), enough);
  const expired = Promise.withResolvers<void>();
  if (late.signal.aborted) expired.resolve();
  late.signal.addEventListener("abort", () => expired.resolve(), { once: true });
  await Promise.race([event, expired.promise]);
}
