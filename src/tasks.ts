// SPDX-License-Identifier: Apache-2.0
/**
 * Background work that somebody owns. A TaskGroup starts tasks, hands them one AbortSignal, and on disposal aborts it and
 * waits for all of them. The first task that fails aborts the group and its error reaches `failed`.
 */

/** Resolves when the signal aborts. */
export const aborted = (signal: AbortSignal): Promise<void> =>
  new Promise((resolve) => {
    if (signal.aborted) resolve();
    else signal.addEventListener("abort", () => resolve(), { once: true });
  });

/**
 * What the promise gives, or the signal's reason where it aborts first; what still comes then is dropped. Nothing is left
 * hanging on the signal.
 */
export function abortable<T>(promise: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (signal === undefined) return promise;
  return new Promise((resolve, reject) => {
    const cancel = (): void => reject(signal.reason);
    promise.then(resolve, reject).finally(() => signal.removeEventListener("abort", cancel));
    if (signal.aborted) cancel();
    else signal.addEventListener("abort", cancel, { once: true });
  });
}

export class TaskGroup implements AsyncDisposable {
  readonly #controller = new AbortController();
  readonly #running = new Set<Promise<void>>();
  readonly #failed = Promise.withResolvers<never>();

  constructor(parent?: AbortSignal) {
    this.#failed.promise.catch(() => {});
    if (parent?.aborted) this.#controller.abort(parent.reason);
    parent?.addEventListener("abort", () => this.#controller.abort(parent.reason), { once: true });
  }

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  /** Rejects with the first error of a task that was not a consequence of the abort. Never resolves. */
  get failed(): Promise<never> {
    return this.#failed.promise;
  }

  start(task: (signal: AbortSignal) => Promise<void>): void {
    const running = task(this.signal)
      .catch((error: unknown) => {
        if (this.signal.aborted) return;
        this.#failed.reject(error);
        this.#controller.abort(error);
      })
      .finally(() => this.#running.delete(running));
    this.#running.add(running);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#controller.abort(new DOMException("task group closed", "AbortError"));
    while (this.#running.size > 0) await Promise.all([...this.#running]);
  }
}
