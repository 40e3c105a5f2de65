// SPDX-License-Identifier: Apache-2.0
/**
 * One client connection to a server on loopback. Gets bytes to send; gives whole answers, in order, and how it ended.
 *
 * Never reconnects: a connection that is gone is news. Source: Bun.connect.
 */
import { deadline } from "#clock.ts";
import { ProgramError } from "#errors.ts";
import { answerBytesMax, type Framing } from "./framing.ts";

/** `closed`: the server ended it. `reset`: with a reset. `garbled`: its bytes were no answer. `left`: we ended it. */
export type ConnectionEnd = "closed" | "reset" | "garbled" | "left";

export type ConnectionEars = {
  /** One whole answer. The bytes are valid during the call only. */
  answer(bytes: Uint8Array): void;
  end(how: ConnectionEnd): void;
};

const connectMsMax = 5_000;

export class Connection {
  #socket: Bun.Socket<undefined> | null = null;
  #received: Uint8Array = new Uint8Array(0);
  #unsent: Uint8Array[] = [];
  #ended: ConnectionEnd | null = null;

  private constructor(
    private readonly framing: Framing,
    private readonly ears: ConnectionEars,
  ) {}

  /** @throws ProgramError `program.gone` where nobody accepts in time. */
  static async open(port: number, framing: Framing, ears: ConnectionEars): Promise<Connection> {
    const connection = new Connection(framing, ears);
    using late = deadline(connectMsMax, () => refused(port));
    const opening = connection.#open(port);
    const expired = Promise.withResolvers<never>();
    late.signal.addEventListener("abort", () => expired.reject(late.signal.reason), { once: true });
    try {
      await Promise.race([opening, expired.promise]);
    } catch (cause) {
      opening.then(() => connection.leave()).catch(() => {}); // an accept that comes too late is not kept open
      throw cause instanceof ProgramError ? cause : refused(port, cause);
    }
    return connection;
  }

  get ended(): ConnectionEnd | null {
    return this.#ended;
  }

  /** The port of our own side: names this client in the server's view. 0 before it is open. */
  get localPort(): number {
    return this.#socket?.localPort ?? 0;
  }

  send(bytes: Uint8Array): void {
    if (this.#ended !== null || this.#socket === null) return;
    if (this.#unsent.length > 0) {
      this.#unsent.push(bytes);
      return;
    }
    const sentBytes = Math.max(0, this.#socket.write(bytes));
    if (sentBytes < bytes.length) this.#unsent.push(bytes.subarray(sentBytes));
  }

  /** Ends it from our side. */
  leave(): void {
    this.#end("left");
  }

  async #open(port: number): Promise<void> {
    this.#socket = await Bun.connect<undefined>({
      hostname: "127.0.0.1",
      port,
      socket: {
        data: (_, bytes) => this.#receive(bytes),
        drain: () => this.#drain(),
        close: (_, error) => this.#end(error === undefined || error === null ? "closed" : "reset"),
        end: () => this.#end("closed"),
        error: () => this.#end("reset"),
      },
    });
  }

  #receive(bytes: Uint8Array): void {
    const all = this.#received.length === 0 ? bytes : Buffer.concat([this.#received, bytes]);
    let at = 0;
    while (at < all.length && this.#ended === null) {
      const end = this.framing(all, at, all.length);
      if (end === "more") break;
      if (end === "garbled") {
        this.#end("garbled");
        return;
      }
      this.ears.answer(all.subarray(at, end));
      at = end;
    }
    if (all.length - at > answerBytesMax) this.#end("garbled");
    this.#received = at === all.length ? new Uint8Array(0) : all.slice(at);
  }

  #drain(): void {
    const waiting = this.#unsent;
    this.#unsent = [];
    for (const bytes of waiting) this.send(bytes);
  }

  #end(how: ConnectionEnd): void {
    if (this.#ended !== null) return;
    this.#ended = how;
    this.#socket?.end();
    this.ears.end(how);
  }
}

const refused = (port: number, cause?: unknown): ProgramError =>
  new ProgramError("program.gone", "no server accepts connections on the port", { port }, cause);
