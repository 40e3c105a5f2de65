// SPDX-License-Identifier: Apache-2.0
/**
 * Lines to a descriptor that may be slow, full or closed, without ever holding or ending the supervisor for it. Gets
 * lines; writes them in order, one write at a time, off the main thread.
 *
 * Limits: `queuedBytesMax` wait for a slow reader, then the newest lines are dropped and counted. A reader that has gone
 * away ends the sink for good. `flush` waits for the rest at most as long as it is told.
 */
import { write } from "node:fs";
import type { Clock } from "#clock.ts";

export const queuedBytesMax = 1 << 20;
const againMs = 10;

/** Reasons that pass: the reader is slow, or the disk under the file is full now. */
const passing: readonly string[] = ["EAGAIN", "EINTR"];

export class LineSink {
  readonly #queue: Buffer[] = [];
  #queuedBytes = 0;
  #writing = false;
  #ended = false;
  #idle = Promise.withResolvers<void>();
  /** Lines that found the queue full. */
  dropped = 0;

  constructor(
    private readonly descriptor: number,
    private readonly clock: Clock,
  ) {
    this.#idle.resolve();
  }

  write(line: string): void {
    if (this.#ended) return;
    const bytes = Buffer.from(`${line}\n`);
    if (this.#queuedBytes + bytes.length > queuedBytesMax) {
      this.dropped += 1;
      return;
    }
    this.#queue.push(bytes);
    this.#queuedBytes += bytes.length;
    if (this.#writing) return;
    this.#writing = true;
    this.#idle = Promise.withResolvers<void>();
    this.#next();
  }

  /** Resolves once all is written, or the reader is gone, or after `patienceMs`. */
  async flush(patienceMs: number): Promise<void> {
    await Promise.race([this.#idle.promise, this.clock.sleep(patienceMs)]);
  }

  #next(): void {
    const bytes = this.#queue[0];
    if (bytes === undefined || this.#ended) {
      this.#writing = false;
      this.#idle.resolve();
      return;
    }
    write(this.descriptor, bytes, 0, bytes.length, null, (error, written) => this.#wrote(bytes, error, written));
  }

  #wrote(bytes: Buffer, error: NodeJS.ErrnoException | null, written: number): void {
    if (error !== null && passing.includes(error.code ?? "")) {
      void this.clock.sleep(againMs).then(() => this.#next());
      return;
    }
    // A full disk costs this line; any other reason will not go away.
    if (error !== null && error.code !== "ENOSPC") this.#ended = true;
    const done = error !== null ? bytes.length : written;
    this.#queuedBytes -= done;
    if (done === bytes.length) this.#queue.shift();
    else this.#queue[0] = bytes.subarray(done);
    this.#next();
  }
}
