// SPDX-License-Identifier: Apache-2.0
/**
 * The list of TCP connections that the guest kit gives (vm/guest-kit/holdfast-sockets.socket). Gets the guest's vsock; gives
 * what ss says now. Whoever asks while another waits is asked for after it.
 *
 * A stopped thread waits for the answer: one that is late, or too long, ends the connection, and there is none from then on. So
 * it is where the kit is older, or has no ss. Limits: `answerMsMax`, `answerBytesMax`.
 */
import { deadline } from "#clock.ts";
import { explain, GdbError } from "#errors.ts";
import type { Log } from "#log.ts";
import { openSocket, type Transport } from "../gdb/transport.ts";

/** Where the guest kit listens, vsock. */
export const socketsPort = 2_160;
const answerMsMax = 500;
/** Some thousand connections. */
export const answerBytesMax = 4 << 20;
const lastLine = "\n.\n";

export class ConnectionList implements AsyncDisposable {
  #text = "";
  #ended = false;
  /** One question at a time. Never rejects. */
  #last: Promise<unknown> = Promise.resolve();
  #arrived = Promise.withResolvers<void>();

  private constructor(
    private readonly transport: Transport,
    private readonly log: Log,
  ) {
    void this.#take();
  }

  /** null where the guest gives none. */
  static async open(vsockSocket: string, log: Log, signal: AbortSignal): Promise<ConnectionList | null> {
    try {
      return new ConnectionList(await openSocket(vsockSocket, { port: socketsPort, signal }), log);
    } catch (error) {
      log("info", "sessions.unlisted", { why: explain(error) });
      return null;
    }
  }

  /** null where the guest does not answer, now and from then on. `slowness`: how many times as long as usual it may take. */
  ask(slowness: number): Promise<string | null> {
    const answer = this.#last.then(() => this.#ask(slowness));
    this.#last = answer;
    return answer;
  }

  async #ask(slowness: number): Promise<string | null> {
    if (this.#ended) return null;
    const limitMs = answerMsMax * slowness;
    const late = (): GdbError => new GdbError("gdb.timeout", `no list of connections within ${limitMs} ms`);
    using limit = deadline(limitMs, late);
    limit.signal.addEventListener("abort", () => this.#arrived.resolve(), { once: true });
    try {
      this.#text = "\n";
      this.transport.write("list\n");
      while (!this.#text.endsWith(lastLine)) {
        this.#arrived = Promise.withResolvers<void>();
        await this.#arrived.promise;
        limit.signal.throwIfAborted();
        if (this.#ended) throw new GdbError("gdb.closed", "the list of connections has ended");
        if (this.#text.length > answerBytesMax) {
          throw new GdbError("gdb.message", `a list of connections beyond ${answerBytesMax} bytes`);
        }
      }
      return this.#text;
    } catch (error) {
      this.log("warn", "sessions.unlisted", { why: explain(error) });
      await this[Symbol.asyncDispose]();
      return null;
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#ended = true;
    await this.transport[Symbol.asyncDispose]();
  }

  async #take(): Promise<void> {
    const decoder = new TextDecoder();
    try {
      for await (const chunk of this.transport.incoming) {
        if (this.#text.length <= answerBytesMax) this.#text += decoder.decode(chunk, { stream: true });
        this.#arrived.resolve();
      }
    } catch {
      // The guest is gone: whoever asks next is told.
    }
    this.#ended = true;
    this.#arrived.resolve();
  }
}
