// SPDX-License-Identifier: Apache-2.0
/**
 * Wakes one waiting loop. Rings are not counted: whoever wakes looks at the state of things again. A ring without a waiter
 * is kept for the next wait.
 */
export class Bell {
  #rung = false;
  #waiter: (() => void) | null = null;

  ring(): void {
    this.#rung = true;
    this.#waiter?.();
  }

  /** Resolves at the next ring, or at once if it rang since the last wait. Rejects with the signal's reason. */
  wait(signal?: AbortSignal): Promise<void> {
    if (signal?.aborted) return Promise.reject(signal.reason);
    if (this.#rung) {
      this.#rung = false;
      return Promise.resolve();
    }
    return new Promise((resolve, reject) => {
      const cancel = (): void => {
        this.#waiter = null;
        reject(signal?.reason);
      };
      this.#waiter = () => {
        this.#waiter = null;
        this.#rung = false;
        signal?.removeEventListener("abort", cancel);
        resolve();
      };
      signal?.addEventListener("abort", cancel, { once: true });
    });
  }
}
