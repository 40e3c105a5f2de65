// SPDX-License-Identifier: Apache-2.0
/**
 * Whether a program that lives serves. Gets probes and what a guard found ill; calls `zombie` once where several looks in
 * a row find it not serving.
 *
 * Probes count from the first moment that the program serves: before that it may be loading. What a failed act has left
 * (a lock that nobody can release, requests that wait in vain) is looked at again in the same way, and forgotten where it
 * has gone. Nothing here stops the program.
 */
import type { Clock } from "#clock.ts";
import type { Probe } from "#monitor/probes.ts";
import { TaskGroup } from "#tasks.ts";
import type { GuardNews } from "../family.ts";

export type HealthPolicy = {
  readonly probes: readonly Probe[];
  /** Between the first moment that it serves and the first question, at least. */
  readonly probeDelayMs?: number;
  readonly probeEveryMs: number;
  /** Failures in a row that make a fault. */
  readonly probeFailuresMax: number;
};

type Ill = Extract<GuardNews, { kind: "ill" }>;

export class Health implements AsyncDisposable {
  #life = new AbortController();
  #probing = false;
  #suspecting = false;
  readonly #tasks = new TaskGroup();

  constructor(
    private readonly policy: HealthPolicy,
    private readonly clock: Clock,
    private readonly zombie: (why: string) => void,
  ) {}

  /** A new life: nothing of an earlier one counts. */
  begin(): void {
    this.end();
    this.#life = new AbortController();
    this.#probing = false;
    this.#suspecting = false;
  }

  end(): void {
    this.#life.abort();
  }

  serves(): void {
    if (this.#probing || this.policy.probes.length === 0) return;
    this.#probing = true;
    this.#look(async (signal) => {
      const answers = await Promise.all(this.policy.probes.map((probe) => probe(signal)));
      return answers.filter((answer) => answer !== null).join("; ") || null;
    }, Number.POSITIVE_INFINITY);
  }

  /** Where configured probes are there, they are the judges; without them what the guard saw is. */
  suspect(ill: Ill): void {
    if (this.#suspecting || this.policy.probes.length > 0) return;
    this.#suspecting = true;
    this.#look(ill.ask, this.policy.probeFailuresMax);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.end();
    await this.#tasks[Symbol.asyncDispose]();
  }

  /** Asks up to `looksMax` times, at intervals; enough failures in a row end it as a zombie. */
  #look(ask: (signal: AbortSignal) => Promise<string | null>, looksMax: number): void {
    const life = this.#life.signal;
    this.#tasks.start(async (tasks) => {
      const signal = AbortSignal.any([life, tasks]);
      const { probeEveryMs, probeDelayMs = 0 } = this.policy;
      for (let look = 0, failures = 0; look < looksMax; look += 1) {
        await this.clock
          .sleep(look === 0 ? Math.max(probeDelayMs, probeEveryMs) : probeEveryMs, signal)
          .catch(() => {});
        if (signal.aborted) return;
        const trouble = await ask(signal);
        if (signal.aborted) return;
        failures = trouble === null ? 0 : failures + 1;
        if (failures < this.policy.probeFailuresMax) continue;
        this.zombie(`it does not serve: ${trouble}`);
        return;
      }
      this.#suspecting = false;
    });
  }
}
