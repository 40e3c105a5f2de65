// SPDX-License-Identifier: Apache-2.0
/**
 * Ways to reach a stub: a pair of FIFOs, or a unix socket (for a guest: one that wants a `CONNECT port` line first).
 *
 * Gets bytes to send and gives the bytes that come. `write` never blocks: what the kernel does not take at once is kept
 * and sent as it drains. Limits: `queueBytesMax` kept bytes, `socketOpenMs`, `unreadChunksMax`. The end of the stream means that the stub
 * is gone: the FIFO it writes has it as the only writer.
 */
import { closeSync, constants, openSync, writeSync } from "node:fs";
import type { Clock } from "#clock.ts";
import { deadline } from "#clock.ts";
import { GdbError } from "#errors.ts";

export interface Transport extends AsyncDisposable {
  /** Names the other end in errors and traces. */
  readonly peer: string;
  /** One character a byte. @throws GdbError "gdb.closed" where the other end is gone or takes nothing any more. */
  write(text: string): void;
  /** The bytes that come; ends where the other end is gone. To be read once. */
  readonly incoming: AsyncIterable<Uint8Array>;
}

/** More than any request; a stub that leaves so much unread is stuck. */
export const queueBytesMax = 256 * 1024;
const retryMs = 1;
const socketOpenMs = 5000;
const greetingBytesMax = 64;
/** Chunks are read as they come; so many unread ones mean that the reader has stopped. */
const unreadChunksMax = 1024;

const closed = (peer: string, cause?: unknown): GdbError =>
  new GdbError("gdb.closed", `the stub at ${peer} is gone`, {}, cause);

const stuck = (peer: string): GdbError =>
  new GdbError("gdb.closed", `the stub at ${peer} has left ${queueBytesMax} bytes unread`);

/** Opens the two FIFOs of a stub that already runs. `out` is read, `in` is written. */
export function openFifos(inPath: string, outPath: string, clock: Clock): Transport {
  const peer = inPath;
  // Reading first: without a writer this succeeds too, without a reader the second one fails.
  const reading = openSync(outPath, constants.O_RDONLY | constants.O_NONBLOCK);
  try {
    const writing = openSync(inPath, constants.O_WRONLY | constants.O_NONBLOCK);
    return new FifoTransport(peer, reading, writing, clock);
  } catch (cause) {
    closeSync(reading);
    throw closed(peer, cause);
  }
}

/** The part of a stream's reader that is used; the two declarations of that type in Bun do not agree. */
type ChunkReader = {
  read(): Promise<{ done: false; value: Uint8Array } | { done: true; value?: unknown }>;
  cancel(): Promise<void>;
};

class FifoTransport implements Transport {
  readonly #reader: ChunkReader;
  #queue = Buffer.alloc(0);
  #closed = false;

  constructor(
    readonly peer: string,
    private readonly reading: number,
    private readonly writing: number,
    private readonly clock: Clock,
  ) {
    this.#reader = Bun.file(reading).stream().getReader();
  }

  write(text: string): void {
    if (this.#closed) throw closed(this.peer);
    const bytes = Buffer.from(text, "latin1");
    if (this.#queue.length > 0) {
      if (this.#queue.length + bytes.length > queueBytesMax) throw stuck(this.peer);
      this.#queue = Buffer.concat([this.#queue, bytes]);
      return;
    }
    const sent = this.#writeNow(bytes);
    if (sent === bytes.length) return;
    this.#queue = bytes.subarray(sent);
    void this.#drain();
  }

  get incoming(): AsyncIterable<Uint8Array> {
    return this.#read();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    closeSync(this.writing);
    // The stream never closes the descriptor, but must let go of it before its number is used again.
    await this.#reader.cancel().catch(() => {});
    closeSync(this.reading);
  }

  async *#read(): AsyncGenerator<Uint8Array> {
    for (;;) {
      const { done, value } = await this.#reader.read();
      if (done) return;
      yield value;
    }
  }

  #writeNow(bytes: Uint8Array): number {
    try {
      return writeSync(this.writing, bytes);
    } catch (cause) {
      if ((cause as NodeJS.ErrnoException).code === "EAGAIN") return 0;
      throw closed(this.peer, cause);
    }
  }

  /** Only for a stub that is slow or stuck; a failure shows again at the next write and at the end of the stream. */
  async #drain(): Promise<void> {
    while (this.#queue.length > 0) {
      await this.clock.sleep(retryMs);
      if (this.#closed) return;
      try {
        this.#queue = this.#queue.subarray(this.#writeNow(this.#queue));
      } catch {
        return;
      }
    }
  }
}

/** Connects to a unix socket; with `port`, asks the hypervisor behind it for that vsock port of its guest. */
export async function openSocket(
  path: string,
  { port = null, signal }: { port?: number | null; signal?: AbortSignal } = {},
): Promise<Transport> {
  const transport = new SocketTransport(port === null ? path : `${path} port ${port}`, port !== null);
  using limit = deadline(socketOpenMs, () => closed(transport.peer), signal);
  await transport.open(path, port, limit.signal);
  return transport;
}

class SocketTransport implements Transport {
  readonly #chunks: Uint8Array[] = [];
  #arrived = Promise.withResolvers<void>();
  #opened = Promise.withResolvers<void>();
  #socket: Bun.Socket | null = null;
  #queue = Buffer.alloc(0);
  #ended = false;
  /** Text before the hypervisor's `OK port` line has ended; null once it has. */
  #greeting: string | null;

  constructor(
    readonly peer: string,
    greeted: boolean,
  ) {
    this.#greeting = greeted ? "" : null;
    this.#opened.promise.catch(() => {});
  }

  async open(path: string, port: number | null, signal: AbortSignal): Promise<void> {
    signal.addEventListener("abort", () => this.#end(signal.reason), { once: true });
    try {
      this.#socket = await Bun.connect({
        unix: path,
        socket: {
          data: (_, chunk) => this.#take(chunk),
          drain: () => this.#flush(),
          close: () => this.#end(closed(this.peer)),
          error: (_, cause) => this.#end(closed(this.peer, cause)),
        },
      });
      if (port === null) return;
      this.#socket.write(`CONNECT ${port}\n`);
      await this.#opened.promise;
    } catch (cause) {
      await this[Symbol.asyncDispose]();
      throw cause instanceof GdbError ? cause : closed(this.peer, cause);
    }
  }

  write(text: string): void {
    if (this.#ended || this.#socket === null) throw closed(this.peer);
    const bytes = Buffer.from(text, "latin1");
    if (this.#queue.length + bytes.length > queueBytesMax) throw stuck(this.peer);
    this.#queue = Buffer.concat([this.#queue, bytes]);
    this.#flush();
  }

  get incoming(): AsyncIterable<Uint8Array> {
    return this.#read();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#end(closed(this.peer));
    this.#socket?.terminate();
  }

  async *#read(): AsyncGenerator<Uint8Array> {
    for (;;) {
      const chunk = this.#chunks.shift();
      if (chunk !== undefined) yield chunk;
      else if (this.#ended) return;
      else {
        this.#arrived = Promise.withResolvers<void>();
        await this.#arrived.promise;
      }
    }
  }

  #take(chunk: Uint8Array): void {
    let rest: Uint8Array = new Uint8Array(chunk);
    if (this.#greeting !== null) {
      const text = this.#greeting + Buffer.from(rest).toString("latin1");
      const end = text.indexOf("\n");
      if (end < 0 && text.length <= greetingBytesMax) {
        this.#greeting = text;
        return;
      }
      if (end < 0 || !/^OK \d+$/.test(text.slice(0, end))) {
        this.#end(closed(this.peer, text.slice(0, greetingBytesMax)));
        return;
      }
      rest = Buffer.from(text.slice(end + 1), "latin1");
      this.#greeting = null;
      this.#opened.resolve();
    }
    if (this.#chunks.length >= unreadChunksMax) {
      this.#end(closed(this.peer, `${unreadChunksMax} chunks are unread`));
      return;
    }
    if (rest.length > 0) this.#chunks.push(rest);
    this.#arrived.resolve();
  }

  #flush(): void {
    if (this.#queue.length === 0 || this.#socket === null) return;
    const sent = this.#socket.write(this.#queue);
    if (sent > 0) this.#queue = this.#queue.subarray(sent);
  }

  #end(reason: unknown): void {
    this.#ended = true;
    this.#opened.reject(reason);
    this.#arrived.resolve();
  }
}
