// SPDX-License-Identifier: Apache-2.0
/**
 * A recorded conversation as a transport: plays the stub's side to a client and compares what the client sends.
 *
 * Gets the lines of a wire trace. What the stub said comes once all has been sent that was sent before it, so timing does
 * not matter. The first difference throws GdbError "gdb.violation" with its line; the stream ends with the trace.
 */
import { GdbError } from "#errors.ts";
import { splitFrames, type TraceLine } from "./trace.ts";
import type { Transport } from "./transport.ts";

export class ReplayTransport implements Transport {
  readonly peer: string;
  #sent = 0;
  #played = 0;
  #progress = Promise.withResolvers<void>();
  #closed = false;

  constructor(private readonly lines: readonly TraceLine[]) {
    this.peer = lines[0]?.peer ?? "trace";
  }

  /** Lines that the client has not sent, or not been told, yet. */
  get linesLeft(): number {
    const unsent = this.lines.filter((line, index) => line.direction === ">" && index >= this.#sent).length;
    return unsent + this.lines.filter((line, index) => line.direction === "<" && index >= this.#played).length;
  }

  write(text: string): void {
    for (const frame of splitFrames(text)) this.#compare(frame);
    this.#progress.resolve();
  }

  get incoming(): AsyncIterable<Uint8Array> {
    return this.#play();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closed = true;
    this.#progress.resolve();
  }

  #compare(frame: string): void {
    const index = this.#nextOf(">", this.#sent);
    const recorded = this.lines[index]?.bytes;
    if (recorded !== frame) {
      const context = { line: index + 1, sent: frame.slice(0, 80), recorded: recorded?.slice(0, 80) ?? "" };
      throw new GdbError("gdb.violation", "the client sent something else than in the trace", context);
    }
    this.#sent = index + 1;
  }

  async *#play(): AsyncGenerator<Uint8Array> {
    for (;;) {
      const index = this.#nextOf("<", this.#played);
      if (this.#closed || index === this.lines.length) return;
      if (this.#nextOf(">", this.#sent) > index) {
        this.#played = index + 1;
        yield Buffer.from(this.lines[index]!.bytes, "latin1");
      } else {
        this.#progress = Promise.withResolvers<void>();
        await this.#progress.promise;
      }
    }
  }

  #nextOf(direction: ">" | "<", from: number): number {
    let index = from;
    while (index < this.lines.length && this.lines[index]!.direction !== direction) index += 1;
    return index;
  }
}
