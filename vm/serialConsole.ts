// SPDX-License-Identifier: Apache-2.0
/**
 * The guest's serial port: read for as long as the guest lives, kept in a file, given line by line, written to on wish.
 *
 * Cloud Hypervisor listens on a unix socket and serves one reader, the newest; it never waits for a slow one. When the
 * VM reboots or its process goes, the socket goes too: we connect again. Since v53 what is printed while nobody is
 * connected is kept there (1 MiB). Limits: `consoleBytesMax` for the file, `lineQueueMax` lines unread, then the oldest
 * go; `lineCharactersMax` a line.
 */
import { closeSync, openSync, writeSync } from "node:fs";
import type { Clock } from "#clock.ts";
import { TaskGroup } from "#tasks.ts";
import { capFile } from "./cappedFile.ts";

export const consoleBytesMax = 4 << 20;
export const lineQueueMax = 1_000;
export const lineCharactersMax = 1_024;
const reconnectMs = 50;
const capEveryBytes = 256 << 10;

/** Bytes in, lines out, without their ends and control sequences. Pure but for its own state. */
export class LineSplitter {
  #rest = "";

  push(text: string): string[] {
    const pieces = (this.#rest + text).split(/\r?\n|\r/);
    this.#rest = pieces.pop()!.slice(-lineCharactersMax);
    return pieces.map((piece) => plain(piece.slice(0, lineCharactersMax))).filter((line) => line !== "");
  }
}

const controlSequence = /\p{Cc}\[[0-9;?]*[A-Za-z]/gu;
const controlCharacter = /\p{Cc}/gu;
const plain = (text: string): string =>
  text.replaceAll("\t", " ").replaceAll(controlSequence, "").replaceAll(controlCharacter, "").trimEnd();

export class SerialConsole implements AsyncDisposable {
  readonly #tasks = new TaskGroup();
  readonly #lines: string[] = [];
  #arrived = Promise.withResolvers<void>();
  #socket: Bun.Socket | null = null;
  #closed = false;
  #sinceCap = 0;
  readonly #file: number;
  readonly #splitter = new LineSplitter();
  readonly #decoder = new TextDecoder();

  /** Starts at once and needs no socket yet. */
  constructor(
    private readonly socketPath: string,
    private readonly filePath: string,
    private readonly clock: Clock,
  ) {
    this.#file = openSync(filePath, "a", 0o600);
    this.#tasks.start((signal) => this.#stayConnected(signal));
  }

  get connected(): boolean {
    return this.#socket !== null;
  }

  /** Types into the guest. False where nobody is connected, or the guest does not take it. */
  write(text: string): boolean {
    const bytes = Buffer.from(text);
    return this.#socket !== null && this.#socket.write(bytes) === bytes.length;
  }

  /** Lines from now on. For one reader; ends when the console is closed. */
  async *lines(): AsyncGenerator<string> {
    while (!this.#closed) {
      const line = this.#lines.shift();
      if (line !== undefined) yield line;
      else {
        this.#arrived = Promise.withResolvers<void>();
        await this.#arrived.promise;
      }
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    this.#arrived.resolve();
    this.#socket?.terminate();
    await this.#tasks[Symbol.asyncDispose]();
    closeSync(this.#file);
  }

  async #stayConnected(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      await this.#connection();
      await this.clock.sleep(reconnectMs, signal);
    }
  }

  /** Resolves once the connection is over, at once where there is none. */
  async #connection(): Promise<void> {
    const over = Promise.withResolvers<void>();
    const end = (): void => {
      this.#socket = null;
      over.resolve();
    };
    try {
      this.#socket = await Bun.connect({
        unix: this.socketPath,
        socket: { data: (_, bytes) => this.#take(bytes), close: end, error: end },
      });
    } catch {
      // Not there (yet): the guest boots, reboots or is gone. The caller tries again.
      return;
    }
    if (this.#closed) this.#socket?.terminate();
    else await over.promise;
  }

  #take(bytes: Uint8Array): void {
    if (this.#closed) return;
    this.#keep(bytes);
    for (const line of this.#splitter.push(this.#decoder.decode(bytes, { stream: true }))) {
      if (this.#lines.length >= lineQueueMax) this.#lines.shift();
      this.#lines.push(line);
    }
    this.#arrived.resolve();
  }

  #keep(bytes: Uint8Array): void {
    try {
      writeSync(this.#file, bytes);
      this.#sinceCap += bytes.length;
      if (this.#sinceCap < capEveryBytes) return;
      this.#sinceCap = 0;
      capFile(this.filePath, consoleBytesMax);
    } catch {
      // A full disk costs the record of the console, not the watch over the guest.
    }
  }
}
