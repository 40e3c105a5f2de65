// SPDX-License-Identifier: Apache-2.0
/**
 * A Worker that does one thing after the other, seen from the main thread. Gets numbered calls; gives each its answer or its
 * error with its own code, and news while a call is under way. A Worker that dies fails its calls; the next starts another.
 *
 * Limit: `letGoMsMax` for a Worker to let go of what it holds, for descriptors outlive the thread that opened them.
 */
import { systemClock } from "#clock.ts";
import { HypervisorError, NativeError, StorageError } from "#errors.ts";

export type Call<Order> = { readonly number: number; readonly order: Order };
export type Reply =
  | { readonly number: number; readonly kind: "done"; readonly value: unknown }
  | { readonly number: number; readonly kind: "failed"; readonly error: PlainError }
  | { readonly number: number; readonly kind: "news"; readonly news: unknown };
/** An error as it crosses threads. */
export type PlainError = {
  readonly code: string;
  readonly message: string;
  readonly context: Readonly<Record<string, string | number | boolean | null>>;
  readonly cause: PlainError | null;
};

/** It may sit in a native call that waits for a process which has just been killed. */
const letGoMsMax = 5_000;

export class WorkerPort<Order> implements Disposable {
  readonly #waiting = new Map<
    number,
    { readonly settle: (reply: Reply) => void; readonly news: (news: unknown) => void }
  >();
  #worker: Worker | null = null;
  #number = 0;

  constructor(
    private readonly url: string,
    private readonly name: string,
    /** What every new Worker is told before anything else. */
    private readonly first: Order | null = null,
    /** What a Worker is told at its end, once it has done what it does: it closes what it has open. */
    private readonly last: Order | null = null,
  ) {}

  /** @throws what the Worker met, as HypervisorError, StorageError or NativeError */
  call(order: Order, news: (news: unknown) => void = () => {}): Promise<unknown> {
    if (this.#worker === null) {
      this.#worker = this.#start();
      if (this.first !== null) void this.call(this.first).catch(() => {});
    }
    this.#number += 1;
    const number = this.#number;
    const { promise, resolve, reject } = Promise.withResolvers<unknown>();
    const settle = (reply: Reply): void => {
      if (reply.kind === "done") resolve(reply.value);
      else if (reply.kind === "failed") reject(reborn(reply.error));
    };
    this.#waiting.set(number, { settle, news });
    this.#worker.postMessage({ number, order } satisfies Call<Order>);
    return promise;
  }

  /** Ends the Worker; open calls fail. */
  [Symbol.dispose](): void {
    const worker = this.#worker;
    this.#fail("it was ended");
    if (worker === null) return;
    if (this.last === null) worker.terminate();
    else void letGo(worker, { number: 0, order: this.last });
  }

  #start(): Worker {
    const worker = new Worker(this.url);
    worker.onmessage = (event: MessageEvent<Reply>): void => {
      const reply = event.data;
      const waiting = this.#waiting.get(reply.number);
      if (reply.kind === "news") return void waiting?.news(reply.news);
      this.#waiting.delete(reply.number);
      waiting?.settle(reply);
    };
    worker.onerror = (event): void => {
      if (this.#worker !== worker) return;
      this.#fail(event.message.slice(0, 300));
      worker.terminate();
    };
    return worker;
  }

  #fail(why: string): void {
    this.#worker = null;
    const waiting = [...this.#waiting];
    this.#waiting.clear();
    const error = { code: "native.call", message: `the ${this.name} Worker ended: ${why}`, context: {}, cause: null };
    for (const [number, { settle }] of waiting) settle({ number, kind: "failed", error });
  }
}

async function letGo(worker: Worker, call: Call<unknown>): Promise<void> {
  const done = new AbortController();
  worker.onmessage = ({ data }: MessageEvent<Reply>): void => {
    if (data.number === call.number && data.kind !== "news") done.abort();
  };
  worker.onerror = (): void => done.abort();
  worker.postMessage(call);
  await systemClock.sleep(letGoMsMax, done.signal).catch(() => {});
  worker.terminate();
}

/** In the Worker: answers each call with what `act` gives or throws. */
export function answerCalls<Order>(
  worker: Worker,
  act: (order: Order, tell: (news: unknown) => void) => unknown,
): void {
  worker.onmessage = (event: MessageEvent<Call<Order>>): void => {
    const { number, order } = event.data;
    const post = (reply: Reply): void => worker.postMessage(reply);
    try {
      const value = act(order, (news) => post({ number, kind: "news", news }));
      post({ number, kind: "done", value });
    } catch (error) {
      post({ number, kind: "failed", error: plain(error) });
    }
  };
}

function plain(error: unknown): PlainError {
  if (!(error instanceof Error)) return { code: "bug", message: String(error), context: {}, cause: null };
  const { code, context } = error as Error & { code?: unknown; context?: Readonly<Record<string, unknown>> };
  const values = Object.entries(context ?? {}).map(([key, value]) => [
    key,
    typeof value === "bigint" ? String(value) : value,
  ]);
  return {
    code: typeof code === "string" ? code : "bug",
    message: error.message,
    context: Object.fromEntries(values),
    cause: error.cause === undefined ? null : plain(error.cause),
  };
}

function reborn({ code, message, context, cause }: PlainError): Error {
  const inner = cause === null ? undefined : reborn(cause);
  if (code.startsWith("storage.")) return new StorageError(code as StorageError["code"], message, context, inner);
  if (code.startsWith("hypervisor.")) {
    return new HypervisorError(code as HypervisorError["code"], message, context, inner);
  }
  const known = code.startsWith("native.") ? (code as NativeError["code"]) : "native.call";
  return new NativeError(known, message, context, inner);
}
