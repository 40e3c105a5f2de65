// SPDX-License-Identifier: Apache-2.0
/**
 * The guest's serial port: read for as long as the guest lives, kept in a file, given line by line, written to on wish.
 *
 * Cloud Hypervisor makes a pseudo terminal for it, anew at every boot, and says where. It never waits for a slow reader and
 * keeps what is printed while nobody reads (1 MiB). Its serial socket would be simpler but dies for good when a reader is
 * killed with bytes unread (v53.0: the reset ends its serial thread; seen in tests/crash). Before a terminal is used it is
 * made sure that it is still Cloud Hypervisor's, since numbers are given out again. Limits: `consoleBytesMax` for the file,
 * `lineQueueMax` lines unread, then the oldest go; `lineCharactersMax` a line.
 */
import { closeSync, constants, openSync, readdirSync, readFileSync, writeSync } from "node:fs";
import type { Clock } from "#clock.ts";
import { TaskGroup } from "#tasks.ts";
import { capFile } from "./cappedFile.ts";

export const consoleBytesMax = 4 << 20;
export const lineQueueMax = 1_000;
export const lineCharactersMax = 1_024;
const reconnectMs = 100;
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

/** Where the terminal of the guest is now, and which process has its other end; null where there is none. */
export type Terminal = () => Promise<{ readonly path: string; readonly pid: number } | null>;

export class SerialConsole implements AsyncDisposable {
  readonly #tasks = new TaskGroup();
  readonly #lines: string[] = [];
  #arrived = Promise.withResolvers<void>();
  #terminal: number | null = null;
  #reader: { cancel(): Promise<void> } | null = null;
  #closed = false;
  #sinceCap = 0;
  readonly #file: number;
  readonly #splitter = new LineSplitter();
  readonly #decoder = new TextDecoder();

  /** Starts at once and needs no terminal yet. */
  constructor(
    private readonly terminal: Terminal,
    private readonly filePath: string,
    private readonly clock: Clock,
  ) {
    this.#file = openSync(filePath, "a", 0o600);
    this.#tasks.start((signal) => this.#stayConnected(signal));
  }

  /** Types into the guest. False where no terminal is open, or it takes nothing now. */
  write(text: string): boolean {
    if (this.#terminal === null) return false;
    const bytes = Buffer.from(text);
    try {
      return writeSync(this.#terminal, bytes) === bytes.length;
    } catch {
      // Full, or gone since: a key that is lost, as on any serial line.
      return false;
    }
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
    await this.#reader?.cancel().catch(() => {});
    await this.#tasks[Symbol.asyncDispose]();
    closeSync(this.#file);
  }

  async #stayConnected(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      const found = await this.terminal();
      if (found !== null && !this.#closed) await this.#connection(found.path, found.pid);
      await this.clock.sleep(reconnectMs, signal);
    }
  }

  /** Resolves once the other end is gone, at once where it is not there. */
  async #connection(path: string, pid: number): Promise<void> {
    const terminal = openTerminal(path, pid);
    if (terminal === null) return;
    this.#terminal = terminal;
    const reader = Bun.file(terminal).stream().getReader();
    this.#reader = reader;
    try {
      for (let piece = await reader.read(); !piece.done; piece = await reader.read()) this.#take(piece.value);
    } catch {
      // The guest is gone or boots anew: its terminal hung up.
    } finally {
      this.#reader = null;
      this.#terminal = null;
      closeQuietly(terminal);
    }
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

/** Opens it for both directions, never as our controlling terminal; null where it is not that process's any more. */
function openTerminal(path: string, pid: number): number | null {
  const index = /^\/dev\/pts\/(\d{1,9})$/.exec(path)?.[1];
  if (index === undefined || !holdsTerminal(pid, index)) return null;
  try {
    const terminal = openSync(path, constants.O_RDWR | constants.O_NOCTTY | constants.O_NONBLOCK);
    if (holdsTerminal(pid, index)) return terminal;
    closeQuietly(terminal);
  } catch {
    // It hung up between the two looks.
  }
  return null;
}

/** Whether the process has the other end of pseudo terminal `index` open (`tty-index` of proc(5), since Linux 4.14). */
function holdsTerminal(pid: number, index: string): boolean {
  const folder = `/proc/${pid}/fdinfo`;
  try {
    return readdirSync(folder).some((fd) => {
      try {
        return readFileSync(`${folder}/${fd}`, "latin1").includes(`tty-index:\t${index}\n`);
      } catch {
        return false;
      }
    });
  } catch {
    return false;
  }
}

function closeQuietly(file: number): void {
  try {
    closeSync(file);
  } catch {
    // The stream has closed it already.
  }
}
