// SPDX-License-Identifier: Apache-2.0
/**
 * The supervisor's side of the status page: starts its thread, tells it how things are, and performs what it is asked for.
 *
 *     collect() ─told, twice a second─▶ thread ─act─▶ perform(request) ─done─▶ thread
 *
 * Nothing here waits for the page, and nothing of the page runs on this thread. A page that cannot open, or that dies, is
 * told of once and costs nothing else.
 */
import { type Clock, deadline } from "#clock.ts";
import { StatusError } from "#errors.ts";
import { TaskGroup } from "#tasks.ts";
import type { VerbRequest, VerbResult } from "#verbs.ts";
import type { Audit, FromPage, ToPage } from "./messages.ts";
import type { StatusSettings } from "./settings.ts";
import type { Told } from "./told.ts";

const pulseMs = 500;
const stopPatienceMs = 2_000;

export type Listening = { readonly url: string; readonly fingerprint: string | null; readonly claim: string | null };

export type StatusPageOptions = {
  readonly settings: StatusSettings;
  /** The state directory of the journal that is shown. */
  readonly directory: string;
  readonly names: readonly string[];
  readonly clock: Clock;
  /** A snapshot of how things are: quick, and never throws. */
  readonly collect: () => Told;
  readonly perform: (request: VerbRequest) => Promise<VerbResult>;
  readonly audit: (audit: Audit) => void;
  readonly listening: (how: Listening) => void;
  readonly failed: (why: string) => void;
};

export class StatusPage implements AsyncDisposable {
  readonly #options: StatusPageOptions;
  readonly #worker: Worker;
  readonly #tasks = new TaskGroup();
  readonly #stopped = Promise.withResolvers<void>();

  constructor(options: StatusPageOptions) {
    this.#options = options;
    const { settings, directory, names, collect } = options;
    this.#worker = new Worker(new URL("./pageWorker.ts", import.meta.url).href);
    this.#worker.onmessage = (event: MessageEvent<FromPage>): void => this.#hear(event.data);
    this.#worker.onerror = (event): void => this.#fail(`its thread ended: ${event.message.split("\n")[0] ?? ""}`);
    this.#send({ kind: "start", start: { settings, directory, names, told: collect() } });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#tasks[Symbol.asyncDispose]();
    this.#send({ kind: "stop" });
    const late = (): Error => new StatusError("status.listen", "the page did not close in time");
    using patience = deadline(stopPatienceMs, late);
    const given = new Promise<void>((resolve) =>
      patience.signal.addEventListener("abort", () => resolve(), { once: true }),
    );
    await Promise.race([this.#stopped.promise, given]);
    this.#worker.terminate();
  }

  #hear(message: FromPage): void {
    switch (message.kind) {
      case "listening":
        this.#options.listening(message);
        this.#tasks.start((signal) => this.#pulse(signal));
        break;
      case "failed":
        this.#fail(message.why);
        break;
      case "act":
        void this.#perform(message.request);
        break;
      case "audit":
        this.#options.audit(message.audit);
        break;
      case "stopped":
        this.#stopped.resolve();
        break;
    }
  }

  async #pulse(signal: AbortSignal): Promise<void> {
    for (;;) {
      await this.#options.clock.sleep(pulseMs, signal);
      this.#send({ kind: "told", told: this.#options.collect() });
    }
  }

  async #perform(request: VerbRequest): Promise<void> {
    const result = await this.#options.perform(request).catch(
      (error: unknown): VerbResult => ({
        kind: "failed",
        why: error instanceof Error ? error.message : String(error),
      }),
    );
    this.#send({ kind: "done", id: request.id, result });
  }

  #fail(why: string): void {
    this.#options.failed(why);
    this.#stopped.resolve();
  }

  #send(message: ToPage): void {
    this.#worker.postMessage(message);
  }
}
