// SPDX-License-Identifier: Apache-2.0
/**
 * One question to a server: connect, send, read until the answer can be judged, hang up. Gets a place and a request; gives
 * what went wrong, or null. Limit: `answerBytesMax`; the time is the caller's.
 */
import { connect } from "node:net";

/** More of an answer is not waited for. */
const answerBytesMax = 16_384;

/** What went wrong, or null. Rejects where the connection fails or the signal aborts. */
export type Asked = (signal: AbortSignal) => Promise<string | null>;

/** `more`: the answer is not whole yet. */
export type Judged =
  | { readonly kind: "good" }
  | { readonly kind: "bad"; readonly why: string }
  | { readonly kind: "more" };

export type ProbeRequest = {
  readonly bytes: Uint8Array;
  readonly judge: (answer: Uint8Array) => Judged;
  /** Said before hanging up, where the protocol wants that. */
  readonly farewell?: Uint8Array;
  /** The wall clock of the program as its answer tells it, ms since 1970; null where it does not. */
  readonly clockOf?: (answer: Uint8Array) => number | null;
};
export type ClockTold = (peerMs: number) => void;

export const connects = (host: string, port: number): Asked => ask(host, port, null);
export const exchanges = (host: string, port: number, request: ProbeRequest, clockTold?: ClockTold): Asked =>
  ask(host, port, request, clockTold);

const ask =
  (host: string, port: number, request: ProbeRequest | null, clockTold?: ClockTold): Asked =>
  (signal) =>
    new Promise((resolve, reject) => {
      const socket = connect({ host, port });
      let answer = new Uint8Array(0);
      const end = (settle: () => void): void => {
        socket.destroy();
        signal.removeEventListener("abort", abort);
        settle();
      };
      const abort = (): void => end(() => reject(signal.reason));
      signal.addEventListener("abort", abort, { once: true });
      socket.once("connect", () => (request === null ? end(() => resolve(null)) : socket.write(request.bytes)));
      socket.once("error", (error) => end(() => resolve(error.message)));
      socket.once("close", () => end(() => resolve("the connection was closed without an answer")));
      socket.on("data", (chunk: Uint8Array) => {
        answer = Buffer.concat([answer, chunk]);
        const judged: Judged = request?.judge(answer) ?? { kind: "good" };
        if (judged.kind === "more" && answer.length <= answerBytesMax) return;
        const peerMs = request?.clockOf?.(answer) ?? null;
        if (peerMs !== null) clockTold?.(peerMs);
        if (request?.farewell !== undefined) socket.write(request.farewell);
        end(() =>
          resolve(judged.kind === "good" ? null : judged.kind === "bad" ? judged.why : "its answer has no end"),
        );
      });
    });
