// SPDX-License-Identifier: Apache-2.0
/**
 * What somebody asks for on the page, done by the code that does it for a fleet. Gets the orders of a supervisor; gives what
 * came of each request. The page offers what concerns one workload; all else is refused with the reason.
 */
import type { Clock } from "#clock.ts";
import { ConfigError } from "#errors.ts";
import type { Storage } from "#storage/storage.ts";
import type { TaskGroup } from "#tasks.ts";
import type { VerbJob, VerbRequest, VerbResult } from "#verbs.ts";
import { LiveSettings } from "../liveSettings.ts";
import type { SuppressionSwitch } from "../suppressionSwitch.ts";
import { executeVerb, type VerbPorts, type WorkloadOrders } from "../verbs.ts";

export type PageVerbParts = {
  readonly orders: WorkloadOrders;
  readonly suppression: SuppressionSwitch;
  readonly storage: Storage;
  readonly clock: Clock;
  /** Owns what is to be done later. */
  readonly tasks: TaskGroup;
};

const notHere = "the page does not offer it: sign a command for this box, holdfast fleet send";

export function pageVerbs(parts: PageVerbParts): (request: VerbRequest) => Promise<VerbResult> {
  const { orders, suppression, storage, clock, tasks } = parts;
  const ports: VerbPorts = {
    ...{ orders, suppression, settings: new LiveSettings({}, {}, storage, clock) },
    diagnose: () => ({}),
    maintenance: () => {
      throw new ConfigError("config.argument", notHere);
    },
    ...{ reboot: { why: notHere }, update: { why: notHere }, wipe: null },
    wait: (delayMs, signal) => clock.sleep(delayMs, signal),
    later: (delayMs, act) =>
      tasks.start(async (ended) => {
        await clock.sleep(delayMs, ended);
        await act();
      }),
  };
  return async (request) => {
    const job = new PageJob(request, AbortSignal.timeout(Math.max(0, request.deadlineMs - clock.wallMs())));
    await executeVerb(job, ports);
    return await job.ended;
  };
}

class PageJob implements VerbJob {
  readonly #ended = Promise.withResolvers<VerbResult>();

  constructor(
    readonly request: VerbRequest,
    readonly signal: AbortSignal,
  ) {}

  get ended(): Promise<VerbResult> {
    return this.#ended.promise;
  }

  /** The page shows that it runs, and its end. */
  progress(): void {}

  async finish(result: VerbResult): Promise<void> {
    this.#ended.resolve(result);
  }
}
