// SPDX-License-Identifier: Apache-2.0
/**
 * One client of a server of the zoo: lines out, lines in, over TCP, a unix socket or TLS. Never reconnects.
 *
 * Gets requests; gives their answers in order. An answer is waited for as long as the connection lasts, at most
 * `answerMsMax`; the end of the connection and silence are answers too: `cut`, `silent`.
 */
import { deadline } from "#clock.ts";

export type Place =
  | { readonly kind: "tcp"; readonly host: string; readonly port: number; readonly tls: boolean }
  | { readonly kind: "unix"; readonly path: string };

/** A line of the server, without its end, or why there is none. */
export type Heard = { readonly line: string } | "cut" | "silent";

const answerMsMax = 5_000;

export class Client implements Disposable {
  readonly #lines: string[] = [];
  #rest = "";
  #ended = false;
  #socket: Bun.Socket<undefined> | null = null;
  #wake = Promise.withResolvers<void>();

  private constructor() {}

  /** @throws the runtime's error where nobody listens */
  static async open(place: Place): Promise<Client> {
    const client = new Client();
    const agreed = Promise.withResolvers<void>();
    const socket = {
      handshake: () => agreed.resolve(),
      data: (_: unknown, bytes: Buffer) => client.#receive(bytes.toString("latin1")),
      close: () => {
        agreed.resolve();
        client.#end();
      },
      end: () => client.#end(),
      error: () => client.#end(),
    };
    client.#socket =
      place.kind === "unix"
        ? await Bun.connect<undefined>({ unix: place.path, socket })
        : await Bun.connect<undefined>({
            hostname: place.host,
            port: place.port,
            ...(place.tls ? { tls: { rejectUnauthorized: false } } : {}),
            socket,
          });
    // What is written before the handshake is over is lost (Bun 1.4.5).
    if (place.kind === "tcp" && place.tls) await agreed.promise;
    return client;
  }

  /** Address as the server sees it; "" on a unix socket. */
  get localPort(): number {
    return this.#socket?.localPort ?? 0;
  }

  get isConnected(): boolean {
    return !this.#ended;
  }

  send(text: string): void {
    if (!this.#ended) this.#socket?.write(text);
  }

  /** The next line, whenever it was sent. */
  async hear(waitMsMax = answerMsMax): Promise<Heard> {
    using late = deadline(waitMsMax, () => new DOMException("no answer in time", "TimeoutError"));
    const expired = Promise.withResolvers<void>();
    late.signal.addEventListener("abort", () => expired.resolve(), { once: true });
    for (;;) {
      const line = this.#lines.shift();
      if (line !== undefined) return { line };
      if (this.#ended) return "cut";
      if (late.signal.aborted) return "silent";
      await Promise.race([this.#wake.promise, expired.promise]);
    }
  }

  /** One request and its answer. */
  async ask(request: string, waitMsMax = answerMsMax): Promise<Heard> {
    this.send(`${request}\n`);
    return await this.hear(waitMsMax);
  }

  /** What is left of a line that never ended. */
  get unfinished(): string {
    return this.#rest;
  }

  [Symbol.dispose](): void {
    this.#ended = true;
    this.#socket?.end();
  }

  #receive(text: string): void {
    const lines = (this.#rest + text).split("\n");
    this.#rest = lines.pop() ?? "";
    this.#lines.push(...lines);
    this.#news();
  }

  #end(): void {
    this.#ended = true;
    this.#socket?.end();
    this.#news();
  }

  #news(): void {
    const woken = this.#wake;
    this.#wake = Promise.withResolvers<void>();
    woken.resolve();
  }
}

/** What was heard, in a word: the line itself, `cut` or `silent`. */
export const wordOf = (heard: Heard): string => (typeof heard === "string" ? heard : `said ${heard.line}`);
