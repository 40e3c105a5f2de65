// SPDX-License-Identifier: Apache-2.0
/**
 * What happened to a program and nobody has read yet, and a way to wait for the next change.
 *
 * Gets events, then an end or a loss; gives them in order to one reader. Limits: `stopQueueMax` unread events.
 */
import { deadline } from "#clock.ts";
import { GdbError } from "#errors.ts";

export const stopQueueMax = 65_536;

export class StopQueue<Event> {
  readonly #events: Event[] = [];
  #watchers: (() => void)[] = [];
  #finished = false;
  #lost: GdbError | null = null;

  /** @throws GdbError "gdb.violation" where the reader has left too many unread */
  push(event: Event): void {
    if (this.#events.length >= stopQueueMax) throw new GdbError("gdb.violation", `${stopQueueMax} stops are unread`);
    this.#events.push(event);
    this.changed();
  }

  /** Nothing more will come, and that is as it should be. */
  finish(): void {
    this.#finished = true;
    this.changed();
  }

  /** Nothing more will come, for this reason. */
  lose(error: GdbError): void {
    this.#lost = error;
    this.changed();
  }

  /** Lets whoever waits in `until` look again. */
  changed(): void {
    for (const wake of this.#watchers.splice(0)) wake();
  }

  /** Events in order; returns after the end, throws after a loss. */
  async *read(): AsyncGenerator<Event, void, void> {
    for (;;) {
      const event = this.#events.shift();
      if (event !== undefined) {
        yield event;
      } else if (this.#finished) {
        return;
      } else if (this.#lost !== null) {
        throw this.#lost;
      } else {
        await this.#change();
      }
    }
  }

  /** Waits until `condition` holds after some change. @throws GdbError "gdb.timeout", the loss, or the signal's reason */
  async until(condition: () => boolean, timeoutMs: number, signal: AbortSignal | undefined): Promise<void> {
    using limit = deadline(timeoutMs, () => new GdbError("gdb.timeout", `no stop came in ${timeoutMs} ms`), signal);
    const aborted = Promise.withResolvers<void>();
    limit.signal.addEventListener("abort", () => aborted.resolve(), { once: true });
    while (!condition()) {
      if (this.#lost !== null) throw this.#lost;
      limit.signal.throwIfAborted();
      await Promise.race([this.#change(), aborted.promise]);
    }
  }

  #change(): Promise<void> {
    return new Promise((resolve) => this.#watchers.push(resolve));
  }
}
