// SPDX-License-Identifier: Apache-2.0
/**
 * Wakes whoever waits for something to hold of a state that changes. Gets told of each change; gives the moment it holds.
 */
export class Changes {
  #next = Promise.withResolvers<void>();

  /** Something has changed: all who wait look again. */
  tell = (): void => {
    this.#next.resolve();
    this.#next = Promise.withResolvers<void>();
  };

  /** Resolves once `holds`. @throws the signal's reason */
  async until(holds: () => boolean, signal: AbortSignal): Promise<void> {
    signal.addEventListener("abort", this.tell, { once: true });
    try {
      while (!holds()) {
        signal.throwIfAborted();
        await this.#next.promise;
      }
    } finally {
      signal.removeEventListener("abort", this.tell);
    }
  }
}
